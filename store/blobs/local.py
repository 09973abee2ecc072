"""Blobs in a folder.

A file is written beside its place, synced, and moved there, and the folder is synced too, so that a row which is
committed afterwards never speaks of a file that a power cut took back.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from store.blobs.interface import CHUNK_BYTES, Blob, check_key, corrupt, missing

_TEMPORARY = ".writing-"  # keys cannot have a part that begins with a dot


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
            raise missing(key)
        return self._range(key, start, end)

    def fetch(self, key: str, path: Path, sha256: str) -> None:
        """Copy the file to `path`, if its bytes have this sha256."""
        keep_checked(self.open_range(key), key, path, sha256)

    def delete(self, key: str) -> None:
        """Remove the file, if it is there."""
        self._path(key).unlink(missing_ok=True)

    def exists(self, key: str) -> bool:
        """Whether there is a file at this key."""
        return self._path(key).is_file()

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the keys below a folder."""
        folder = self._path(prefix.rstrip("/")) if prefix else self.root
        return (self._key(path) for path in _files(folder))

    def list_older(self, time: float) -> Iterator[str]:
        """Yield the keys of files that were last written before this time."""
        for path in _files(self.root):
            with suppress(FileNotFoundError):  # deleted meanwhile
                if path.stat().st_mtime < time:
                    yield self._key(path)

    def forget_unfinished(self, time: float) -> None:
        """Remove old temporary files."""
        for path in self.root.rglob(f"{_TEMPORARY}*"):
            with suppress(FileNotFoundError):  # finished meanwhile
                if path.stat().st_mtime < time:
                    path.unlink()

    def link(self, key: str, seconds: float) -> None:
        """There are no addresses of local files."""

    def check(self) -> None:
        """Write, and take it back."""
        with self.writer("readyz/probe") as probe:
            probe.write(b"?")

    def _key(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _path(self, key: str) -> Path:
        return self.root / check_key(key)

    def _open(self, key: str) -> BinaryIO:
        try:
            return self._path(key).open("rb")
        except (FileNotFoundError, IsADirectoryError):
            raise missing(key) from None

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


def keep_checked(chunks: Iterator[bytes], key: str, path: Path, sha256: str) -> None:
    """Write to `path` what comes from the blob store, if it has this sha256.

    Raises:
        BlobCorrupt: then nothing is there.
    """
    out = LocalWriter(key, path)
    try:
        for chunk in chunks:
            out.write(chunk)
        if out.sha256 != sha256:
            raise corrupt(key, out.sha256, sha256)
        out.commit()
    finally:
        out.discard()


def _chunks(source: BinaryIO) -> Iterator[bytes]:
    while chunk := source.read(CHUNK_BYTES):
        yield chunk


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith(_TEMPORARY):
            yield path


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
