"""Fetching a file: resumed by Range after a cut, checked against its sha256, then renamed into place."""

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

import httpx

from abdistill.errors import ConfigurationError, IntegrityError, RateLimited, ServerError
from abdistill.transport import RETRIED_STATUS, Transport, pause
from abdistill.uploads import BLOCK_BYTES, Progress


def fetch_file(
    transport: Transport,
    url_path: str,
    target: Path,
    *,
    size_bytes: int,
    sha256: str,
    progress: Progress | None,
) -> Path:
    """Download to `target`, which appears only when it is whole and right.

    Until then the bytes are beside it in `.NAME.SHA256.part`, where the next attempt, in this process or a later one,
    goes on. The retry count starts anew whenever bytes have arrived.

    Raises:
        ConfigurationError: the target cannot be written.
        ApiError: refused. ConnectionFailed: the connection stayed lost.
        IntegrityError: what came has another size or sha256; nothing is kept.
    """
    part = target.with_name(f".{target.name}.{sha256[:16]}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with part.open("a+b") as file:
            arrived = _Arrived(file)
            _Download(transport, url_path, arrived, size_bytes, progress).run()
            file.flush()
            os.fsync(file.fileno())
        if arrived.size_bytes != size_bytes or arrived.digest.hexdigest() != sha256:
            part.unlink()
            raise IntegrityError(
                f"{target.name}: expected {size_bytes} bytes with sha256 {sha256}, got {arrived.size_bytes} bytes with "
                f"{arrived.digest.hexdigest()}. Nothing was kept. Try again; if it happens again, tell the operator."
            )
        part.replace(target)
    except OSError as error:
        raise ConfigurationError(f"{target} cannot be written: {error.strerror or error}") from error
    return target


class _Arrived:
    """What is on disk so far, with its running digest; begins with what an interrupted download left."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size_bytes = 0
        self.digest = hashlib.sha256()
        file.seek(0)
        while block := file.read(BLOCK_BYTES):
            self.digest.update(block)
            self.size_bytes += len(block)

    def append(self, block: bytes) -> None:
        self._file.write(block)
        self.digest.update(block)
        self.size_bytes += len(block)

    def discard(self) -> None:
        self._file.truncate(0)
        self.size_bytes = 0
        self.digest = hashlib.sha256()


class _Download:
    """Asks for what is missing until nothing is."""

    def __init__(
        self,
        transport: Transport,
        url_path: str,
        arrived: _Arrived,
        size_bytes: int,
        progress: Progress | None,
    ) -> None:
        self.transport = transport
        self.url_path = url_path
        self.arrived = arrived
        self.size_bytes = size_bytes
        self.progress = progress

    def run(self) -> None:
        if self.arrived.size_bytes > self.size_bytes:
            self.arrived.discard()
        failures = 0
        while self.arrived.size_bytes < self.size_bytes:
            before = self.arrived.size_bytes
            wait_seconds = 0.0
            try:
                self._ask()
                cause: Exception = httpx.RemoteProtocolError("the response ended early")
            except httpx.TransportError as error:
                cause = error
            except (ServerError, RateLimited) as error:
                if error.status not in RETRIED_STATUS:
                    raise
                cause, wait_seconds = error, error.retry_after_seconds
            if self.arrived.size_bytes >= self.size_bytes:
                return
            failures = 1 if self.arrived.size_bytes > before else failures + 1
            if failures > self.transport.max_retries:
                raise (
                    self.transport.connection_failed(cause)
                    if isinstance(cause, httpx.TransportError)
                    else cause
                )
            pause(
                failures - 1,
                f"GET {self.url_path} at byte {self.arrived.size_bytes}: {cause!r}",
                wait_seconds,
            )

    def _ask(self) -> None:
        headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
        if self.arrived.size_bytes:
            headers["Range"] = f"bytes={self.arrived.size_bytes}-"
        with self.transport.stream(self.url_path, headers) as response:
            if response.status_code != httpx.codes.PARTIAL_CONTENT:  # the whole file comes, asked for or not
                self.arrived.discard()
            # As they come: with a block size httpx holds bytes back, and drops them when the connection is cut.
            for block in response.iter_raw():
                self.arrived.append(block)
                if self.progress:
                    self.progress(self.arrived.size_bytes, self.size_bytes)
