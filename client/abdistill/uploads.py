"""Sending a file: streamed with its length and sha256, so that the service can tell a whole upload from a torn one."""

import base64
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from abdistill.errors import ConfigurationError
from abdistill.transport import Transport

BLOCK_BYTES = 1 << 20

Progress = Callable[[int, int], None]
"""Called with (bytes so far, bytes in all); a transfer that starts again calls it with a smaller first number."""


def is_address(path: str | os.PathLike[str]) -> bool:
    """Whether it names a file that the service shall fetch, not one that is here."""
    return isinstance(path, str) and path.startswith(("s3://", "file://"))


@dataclass(frozen=True)
class LocalFile:
    """A file that is to be sent, with the digest of what it held when it was read."""

    path: Path
    size_bytes: int
    sha256: str

    @classmethod
    def read(cls, path: Path) -> "LocalFile":
        """Size and sha256 of a file.

        Raises:
            ConfigurationError: there is no such file, it is a folder, it is empty or cannot be read.
        """
        if path.is_dir():
            raise ConfigurationError(
                f"{path} is a folder: send one file. Pack it first, e.g. `tar -cf {path.name}.tar -C {path} .`"
            )
        digest = hashlib.sha256()
        size = 0
        try:
            with path.open("rb") as file:
                while block := file.read(BLOCK_BYTES):
                    digest.update(block)
                    size += len(block)
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
        if size == 0:
            raise ConfigurationError(f"{path} is empty: there is nothing to send")
        return cls(path, size, digest.hexdigest())


def put_file(transport: Transport, url_path: str, file: LocalFile, progress: Progress | None) -> None:
    """PUT the file's bytes; sent again from the start if the connection is lost.

    Raises:
        ApiError: refused. ConnectionFailed: the connection stayed lost.
    """

    def blocks() -> Iterator[bytes]:
        sent = 0
        with file.path.open("rb") as source:
            while block := source.read(BLOCK_BYTES):
                yield block
                sent += len(block)
                if progress:
                    progress(sent, file.size_bytes)

    transport.request(
        "PUT",
        url_path,
        content=blocks,
        headers={
            "Content-Type": "application/octet-stream",
            "Content-Length": str(file.size_bytes),
            "Content-Digest": f"sha-256=:{base64.b64encode(bytes.fromhex(file.sha256)).decode()}:",
        },
    )
