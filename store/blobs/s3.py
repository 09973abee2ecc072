"""Blobs in a bucket.

Files are sent in parts that the server checks by their sha256 and puts together at the end; before that there is
nothing at the key. Reads come in bounded ranges, one request each, so that a slow reader holds no connection open.
"""

import hashlib
import queue
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from threading import Thread

import obstore
from obstore.store import S3Store

from store.blobs.buckets import Bucket
from store.blobs.interface import CHUNK_BYTES, Blob, check_key
from store.blobs.local import keep_checked

PART_BYTES = 8 * 2**20  # of at most 10,000 parts: files of up to 78 GiB
PARTS_AT_ONCE = 4
PATIENCE_SECONDS = 30.0
PROBE_SECONDS = 3.0


class S3Blobs:
    """A `BlobStore` in a bucket, below a prefix."""

    def __init__(self, url: str) -> None:
        """Raises UnsupportedUrl."""
        self._bucket = Bucket.parse(url)
        self._store = self._bucket.open(PATIENCE_SECONDS)

    def put_file(self, key: str, path: Path) -> Blob:
        """Store a copy of the file at `path`."""
        with path.open("rb") as source, self.writer(key) as out:
            while chunk := source.read(CHUNK_BYTES):
                out.write(chunk)
            return out.commit()

    @contextmanager
    def writer(self, key: str) -> Iterator["S3Writer"]:
        """Write a file piece by piece."""
        out = S3Writer(self._bucket, self._store, check_key(key))
        try:
            yield out
        finally:
            out.discard()

    def open_range(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yield the bytes from `start` to before `end`, in chunks."""
        with self._bucket.told(key):
            size = obstore.head(self._store, check_key(key))["size"]
        return self._range(key, start, size if end is None else min(end, size))

    def fetch(self, key: str, path: Path, sha256: str) -> None:
        """Copy the file to `path`, if its bytes have this sha256."""
        keep_checked(self.open_range(key), key, path, sha256)

    def delete(self, key: str) -> None:
        """Remove the file, if it is there."""
        with self._bucket.told(key), suppress(FileNotFoundError):
            obstore.delete(self._store, check_key(key))

    def exists(self, key: str) -> bool:
        """Whether there is a file at this key."""
        with self._bucket.told(key):
            try:
                obstore.head(self._store, check_key(key))
            except FileNotFoundError:
                return False
        return True

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the keys below a folder."""
        folder = check_key(prefix.rstrip("/")) if prefix else None
        with self._bucket.told(prefix):
            for page in obstore.list(self._store, folder):
                yield from (entry["path"] for entry in page)

    def list_older(self, time: float) -> Iterator[str]:
        """Yield the keys of files that were last written before this time."""
        with self._bucket.told():
            for page in obstore.list(self._store):
                yield from (entry["path"] for entry in page if entry["last_modified"].timestamp() < time)

    def forget_unfinished(self, time: float) -> None:
        """Left to the bucket's lifecycle rules."""

    def link(self, key: str, seconds: float) -> str:
        """Return a signed address of the file."""
        with self._bucket.told(key):
            return obstore.sign(self._store, "GET", check_key(key), timedelta(seconds=seconds))

    def check(self) -> None:
        """Write a probe and delete it, with little patience."""
        store = self._bucket.open(PROBE_SECONDS)
        with self._bucket.told():
            obstore.put(store, "readyz/probe", b"?")
            obstore.delete(store, "readyz/probe")

    def _range(self, key: str, start: int, end: int) -> Iterator[bytes]:
        while start < end:
            stop = min(end, start + PART_BYTES)
            with self._bucket.told(key):
                part = obstore.get_range(self._store, key, start=start, end=stop).to_bytes()
            yield from (part[i : i + CHUNK_BYTES] for i in range(0, len(part), CHUNK_BYTES))
            start = stop


class S3Writer:
    """A `BlobWriter` into a bucket: what fits into one part goes by one request, more by a thread that sends parts."""

    def __init__(self, bucket: Bucket, store: S3Store, key: str) -> None:
        self._bucket = bucket
        self._store = store
        self._key = key
        self._hash = hashlib.sha256()
        self._size = 0
        self._buffer = bytearray()
        self._sender: _Sender | None = None

    def write(self, chunk: bytes | memoryview) -> None:
        """Append bytes."""
        self._hash.update(chunk)
        self._size += len(chunk)
        self._buffer += chunk
        if len(self._buffer) >= PART_BYTES:
            if self._sender is None:
                self._sender = _Sender(self._send)
            full, self._buffer = bytes(self._buffer), bytearray()
            with self._bucket.told(self._key):
                self._sender.hand_over(full)

    def commit(self) -> Blob:
        """Send the rest, and have the parts put together."""
        with self._bucket.told(self._key):
            if self._sender is None:
                obstore.put(self._store, self._key, bytes(self._buffer), use_multipart=False)
            else:
                self._sender.hand_over(bytes(self._buffer))
                self._sender.finish()
                self._sender = None
        return Blob(self._key, self._hash.hexdigest(), self._size)

    def discard(self) -> None:
        """Forget what was not committed."""
        if self._sender is not None:
            self._sender.give_up()
            self._sender = None

    def _send(self, parts: Iterator[bytes]) -> None:
        obstore.put(
            self._store,
            self._key,
            parts,
            use_multipart=True,
            chunk_size=PART_BYTES,
            max_concurrency=PARTS_AT_ONCE,
        )


class _GivenUp(Exception):
    """Makes the library abort the upload."""


class _Sender:
    """A thread in which a function takes the parts that are handed over, one waiting at most."""

    def __init__(self, send: Callable[[Iterator[bytes]], None]) -> None:
        self._parts: queue.Queue[bytes | _GivenUp | None] = queue.Queue(maxsize=1)
        self._outcome: Future[None] = Future()
        self._thread = Thread(target=self._run, args=(send,), name="blob sender", daemon=True)
        self._thread.start()

    def hand_over(self, part: bytes | _GivenUp | None) -> None:
        """Queue a part; raises what the function has raised."""
        while True:
            if self._outcome.done():
                self._outcome.result()
                return
            with suppress(queue.Full):
                self._parts.put(part, timeout=0.2)
                return

    def finish(self) -> None:
        """Wait for the function's end; raises what it raised."""
        self.hand_over(None)
        self._outcome.result()

    def give_up(self) -> None:
        """End the function by an error at its next part, and wait for it."""
        with suppress(Exception):
            self.hand_over(_GivenUp())
        self._thread.join()

    def _run(self, send: Callable[[Iterator[bytes]], None]) -> None:
        try:
            send(self._take())
        except BaseException as error:
            self._outcome.set_exception(error)
        else:
            self._outcome.set_result(None)

    def _take(self) -> Iterator[bytes]:
        while (part := self._parts.get()) is not None:
            if isinstance(part, _GivenUp):
                raise part
            yield part
