"""Rows of bytes on disk, as many in a file as a split has images: all there, or no file."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor


class RowFile:
    """A file of `num_rows` rows of `row_bytes` bytes each, mapped into memory when it is read.

    What is written is published by a rename when it is complete. So a file that can be seen is whole, whatever killed
    its writer, and however many write the same.
    """

    def __init__(self, path: Path, num_rows: int, row_bytes: int) -> None:
        self.path = path
        self.size_bytes = num_rows * row_bytes
        self._row_bytes = row_bytes
        self._mapped: Tensor | None = None

    @property
    def exists(self) -> bool:
        """Whether it is there, with the size that it must have."""
        try:
            return self.path.stat().st_size == self.size_bytes
        except FileNotFoundError:
            return False

    @contextmanager
    def writing(self) -> Iterator[Callable[[Tensor], None]]:
        """Yield what appends rows, uint8 (rows, row_bytes); publish the file at the end, or leave nothing behind.

        Raises:
            OSError: the disk is full, for instance.
        """
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                yield lambda rows: _append(file, rows)
                assert file.tell() == self.size_bytes, "not every image got its row"
            temporary.replace(self.path)
        finally:
            temporary.unlink(missing_ok=True)

    def read(self, index_B: Tensor) -> Tensor:
        """Return the rows of these images, uint8 (B, row_bytes), in ordinary memory. `index_B` is int64, on the CPU."""
        if self._mapped is None:
            mapped = torch.from_file(str(self.path), shared=False, size=self.size_bytes, dtype=torch.uint8)
            self._mapped = mapped.view(-1, self._row_bytes)
        return self._mapped.index_select(0, index_B)


def _append(file: BinaryIO, rows: Tensor) -> None:
    file.write(rows.cpu().contiguous().numpy().data)
