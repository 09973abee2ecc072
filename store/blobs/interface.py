"""What a blob store can do, whatever it is made of.

A file is at its key whole or not at all, and is there for good before a row speaks of it.
"""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

from store.errors import BadBlobKey, BlobCorrupt, BlobMissing

CHUNK_BYTES = 2**20
_KEY = re.compile(
    r"(?!.{513})[A-Za-z0-9_][A-Za-z0-9_.\-]{0,127}(/[A-Za-z0-9_][A-Za-z0-9_.\-]{0,127})*", re.ASCII
)


class Blob(NamedTuple):
    """A stored file: its key, the sha256 of its bytes in hex, its size in bytes."""

    key: str
    sha256: str
    size: int


class BlobWriter(Protocol):
    """A file that is being written; nothing is at its key before `commit`."""

    def write(self, chunk: bytes | memoryview) -> None:
        """Append bytes."""
        ...

    def commit(self) -> Blob:
        """Make the file durable and put it at its key, in place of what was there."""
        ...


class BlobStore(Protocol):
    """Where files live that outlive a process. All methods block.

    All raise BadBlobKey for a key that is none, and BlobsUnusable where the store is away or refuses us.
    """

    def put_file(self, key: str, path: Path) -> Blob:
        """Store a copy of the file at `path`."""
        ...

    def writer(self, key: str) -> AbstractContextManager[BlobWriter]:
        """Write a file piece by piece: `with store.writer(key) as out: ...; blob = out.commit()`.

        Leaving the block without `commit` forgets what was written.
        """
        ...

    def open_range(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yield the bytes from `start` to before `end` (None: to the last), in chunks.

        Raises:
            BlobMissing: at once, not at the first chunk.
        """
        ...

    def fetch(self, key: str, path: Path, sha256: str) -> None:
        """Copy the file to `path`, which appears there only when its bytes have this sha256.

        Raises:
            BlobMissing, BlobCorrupt
        """
        ...

    def delete(self, key: str) -> None:
        """Remove the file; nothing happens where there is none."""
        ...

    def exists(self, key: str) -> bool:
        """Whether there is a file at this key."""
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the keys below a folder; `prefix` is a key without its last part, or empty for all."""
        ...

    def list_older(self, time: float) -> Iterator[str]:
        """Yield the keys of files that were last written before this time, in UNIX seconds."""
        ...

    def forget_unfinished(self, time: float) -> None:
        """Remove what writers that died before this time, in UNIX seconds, have left half-written.

        A bucket does that by itself, by a lifecycle rule for multipart uploads that were not completed.
        """
        ...

    def link(self, key: str, seconds: float) -> str | None:
        """Return an address from which anybody may GET the file for so long; None where there are no such addresses."""
        ...

    def check(self) -> None:
        """Write, look and delete once.

        Raises:
            BlobsUnusable, OSError: what is wrong.
        """
        ...


def check_key(key: str) -> str:
    """Return the key.

    Raises:
        BadBlobKey: it is none, and could lead out of the store.
    """
    if not _KEY.fullmatch(key):
        raise BadBlobKey(
            f"{key!r} cannot be a blob key: it must be names of letters, digits, '_', '-' and '.', joined by '/', "
            "none of them beginning with a dot."
        )
    return key


def missing(key: str) -> BlobMissing:
    """The error to raise where there is no file at a key."""
    return BlobMissing(f"There is no file at {key!r} in the blob store.")


def corrupt(key: str, found: str, stored: str) -> BlobCorrupt:
    """The error to raise where a file's sha256 is another than that which was stored."""
    return BlobCorrupt(
        f"The file at {key!r} has sha256 {found}, but {stored} was stored: restore it from a copy, or upload it anew."
    )
