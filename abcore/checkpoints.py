"""Resume state on disk: whole or absent, checked when read, the last two kept.

A checkpoint is one file: a line `abdistill-checkpoint FORMAT SHA256`, then what `torch.save` made of tensors and
plain values. The digest is inside the file, so one that was copied somewhere and back still proves itself.
"""

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from abcore.atomic import write_atomically

FORMAT = 4
"""Counts changes of what a checkpoint contains; one of another format is not read."""

_MAGIC = b"abdistill-checkpoint"
_KEPT = 2


@dataclass(frozen=True)
class Saved:
    """A checkpoint that is on disk. `sha256` is that of the whole file."""

    path: Path
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Loaded:
    """A checkpoint that was read. Tensors lie on the CPU."""

    path: Path
    state: dict[str, Any]


class BadCheckpoint(Exception):
    """A file in the checkpoint folder is not a whole checkpoint of this format; the message says why."""


class Checkpoints:
    """The checkpoint folder of a workspace. Names sort by how far the training was."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)

    def save(self, global_step: int, state: dict[str, Any]) -> Saved:
        """Write a checkpoint, then delete all but the last two.

        Args:
            global_step: optimizer steps over all phases; names the file.
            state: nested dicts and lists of tensors, numbers, strings and None.
        """
        buffer = io.BytesIO()
        torch.save(state, buffer)
        payload = buffer.getbuffer()
        header = b"%s %d %s\n" % (_MAGIC, FORMAT, hashlib.sha256(payload).hexdigest().encode())
        content = header + payload
        path = self._folder / f"step-{global_step:010d}.ckpt"
        write_atomically(path, content)
        for old in self._newest_first()[_KEPT:]:
            old.unlink()
        return Saved(path, len(content), hashlib.sha256(content).hexdigest())

    def load_newest(self, on_bad: Callable[[str], None]) -> Loaded | None:
        """Read the newest whole checkpoint; None if there is none. Nothing in a file is ever executed.

        Args:
            on_bad: told, in a sentence, about each newer file that is not whole; the file is deleted.
        """
        for path in self._newest_first():
            try:
                return Loaded(path, _read(path))
            except BadCheckpoint as bad:
                on_bad(f"{path.name} {bad}")
                path.unlink()
        return None

    def load(self, name: str) -> Loaded:
        """Read one checkpoint.

        Raises:
            BadCheckpoint
        """
        return Loaded(self._folder / name, _read(self._folder / name))

    def newest(self) -> Path | None:
        """Return where the newest checkpoint is, if there is one."""
        return next(iter(self._newest_first()), None)

    def _newest_first(self) -> list[Path]:
        return sorted(self._folder.glob("step-*.ckpt"), reverse=True)


def _read(path: Path) -> dict[str, Any]:
    header, _, payload = path.read_bytes().partition(b"\n")
    match header.split(b" "):
        case [magic, number, digest] if magic == _MAGIC:
            pass
        case _:
            raise BadCheckpoint("is no checkpoint of abdistill")
    if hashlib.sha256(payload).hexdigest().encode() != digest:
        raise BadCheckpoint("is damaged: its content does not match its sha256")
    if number != b"%d" % FORMAT:
        raise BadCheckpoint(f"has format {number.decode()}; this version reads {FORMAT}")
    state: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    return state
