"""Files by key. The interface fits an object store; `LocalBlobs` keeps them in a folder.

A file is at its key whole or not at all: it is written beside its place, synced, and moved there, and the folder is
synced too, so that a row which is committed afterwards never speaks of a file that a power cut took back.
"""

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

from store.errors import BadBlobKey, BlobCorrupt, BlobMissing, UnsupportedUrl

CHUNK_BYTES = 2**20
_KEY = re.compile(
    r"(?!.{513})[A-Za-z0-9_][A-Za-z0-9_.\-]{0,127}(/[A-Za-z0-9_][A-Za-z0-9_.\-]{0,127})*", re.ASCII
)
_TEMPORARY = ".writing-"  # keys cannot have a part that begins with a dot


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
    """Where files live that outlive a process. All methods block; all raise BadBlobKey for a key that is none."""

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
        """Yield the keys below a folder, in order; `prefix` is a key without its last part, or empty for all."""
        ...


class LocalBlobs:
    """A `BlobStore` in a folder of this machine, or of a file system that all of them mount."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put_file(self, key: str, path: Path) -> Blob:
        """Store a copy of the file at `path`."""
        with path.open("rb") as source, self.writer(key) as out:
            for chunk in _chunks(source):
                out.write(chunk)
            return out.commit()

    @contextmanager
    def writer(self, key: str) -> Iterator["LocalWriter"]:
        """Write a file piece by piece."""
        out = LocalWriter(key, self._path(key))
        try:
            yield out
        finally:
            out.discard()

    def open_range(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yield the bytes from `start` to before `end`, in chunks."""
        if not self.exists(key):
            raise _missing(key)
        return self._range(key, start, end)

    def fetch(self, key: str, path: Path, sha256: str) -> None:
        """Copy the file to `path`, if its bytes have this sha256."""
        with self._open(key) as source:
            out = LocalWriter(key, path)
            try:
                for chunk in _chunks(source):
                    out.write(chunk)
                if out.sha256 != sha256:
                    raise BlobCorrupt(
                        f"The file at {key!r} has sha256 {out.sha256}, but {sha256} was stored: restore it from a "
                        "copy, or upload it anew."
                    )
                out.commit()
            finally:
                out.discard()

    def delete(self, key: str) -> None:
        """Remove the file, if it is there."""
        self._path(key).unlink(missing_ok=True)

    def exists(self, key: str) -> bool:
        """Whether there is a file at this key."""
        return self._path(key).is_file()

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the keys below a folder, in order."""
        folder = self._path(prefix.rstrip("/")) if prefix else self.root
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.name.startswith(_TEMPORARY):
                yield path.relative_to(self.root).as_posix()

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise BadBlobKey(
                f"{key!r} cannot be a blob key: it must be names of letters, digits, '_', '-' and '.', joined by '/', "
                "none of them beginning with a dot."
            )
        return self.root / key

    def _open(self, key: str) -> BinaryIO:
        try:
            return self._path(key).open("rb")
        except (FileNotFoundError, IsADirectoryError):
            raise _missing(key) from None

    def _range(self, key: str, start: int, end: int | None) -> Iterator[bytes]:
        # Opened at the first chunk: an iterator that nobody starts must not hold a file.
        with self._open(key) as source:
            source.seek(start)
            rest = CHUNK_BYTES if end is None else end - start
            while rest > 0 and (chunk := source.read(min(CHUNK_BYTES, rest))):
                yield chunk
                rest -= 0 if end is None else len(chunk)


class LocalWriter:
    """A `BlobWriter` that writes to a temporary file in the folder where the file shall be."""

    def __init__(self, key: str, path: Path) -> None:
        self._key = key
        self._path = path
        _make_folder(path.parent)
        descriptor, name = tempfile.mkstemp(prefix=_TEMPORARY, dir=path.parent)
        self._file = os.fdopen(descriptor, "wb", buffering=0)
        self._temporary = Path(name)
        self._hash = hashlib.sha256()
        self._size = 0

    @property
    def sha256(self) -> str:
        """Hex sha256 of what was written so far."""
        return self._hash.hexdigest()

    def write(self, chunk: bytes | memoryview) -> None:
        """Append bytes."""
        rest = memoryview(chunk)
        self._hash.update(rest)
        self._size += len(rest)
        while rest:
            rest = rest[self._file.write(rest) :]

    def commit(self) -> Blob:
        """Sync, move to the key, sync the folder."""
        os.fsync(self._file.fileno())
        self._file.close()
        self._temporary.replace(self._path)
        _sync_folder(self._path.parent)
        return Blob(self._key, self.sha256, self._size)

    def discard(self) -> None:
        """Forget what was not committed."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)


def open_blobs(url: str) -> BlobStore:
    """Return the blob store at this address.

    Raises:
        UnsupportedUrl: not `file:///path`.
    """
    parts = urlsplit(url)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or not parts.path:
        raise UnsupportedUrl(f"The blobs_url {url!r} is not supported: use file:///path/to/folder.")
    return LocalBlobs(Path(unquote(parts.path)))


def _chunks(source: BinaryIO) -> Iterator[bytes]:
    while chunk := source.read(CHUNK_BYTES):
        yield chunk


def _missing(key: str) -> BlobMissing:
    return BlobMissing(f"There is no file at {key!r} in the blob store.")


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
