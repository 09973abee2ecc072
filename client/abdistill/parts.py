"""Sending a large file in parts: what has arrived is asked for first, and never sent again."""

import base64
import hashlib

from pydantic import BaseModel, ConfigDict

from abdistill.errors import ConfigurationError, ConnectionFailed, RateLimited, ServerError
from abdistill.transport import RETRIED_STATUS, Transport, pause
from abdistill.uploads import LocalFile, Progress

PARTS_FROM_BYTES = 64 << 20
"""Smaller files are sent by one request."""
COMPLETE_SECONDS = 900.0
"""The service reads all of the file before it answers."""


class _Upload(BaseModel):
    model_config = ConfigDict(extra="ignore")

    id: str
    state: str
    part_bytes: int
    num_parts: int


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore")

    number: int
    sha256: str


class _Parts(BaseModel):
    model_config = ConfigDict(extra="ignore")

    data: tuple[_Part, ...]


def send_in_parts(transport: Transport, file: LocalFile, progress: Progress | None) -> str:
    """Send what the service does not have of the file, and return the id of its complete upload.

    An upload of the same content that was begun before, by whatever process, is gone on with; one that is complete is
    not sent at all.

    Raises:
        ApiError: refused. ConnectionFailed: the connection stayed lost; the next call goes on from there.
        ConfigurationError: the file has become shorter, or cannot be read any more.
    """
    body = {"size_bytes": file.size_bytes, "sha256": file.sha256}
    created = transport.request("POST", "/v1/uploads", json=body, repeatable=True)
    upload = _Upload.model_validate_json(created.content)
    if upload.state != "complete":
        _Sending(transport, file, upload, progress).run()
        path = f"/v1/uploads/{upload.id}/complete"
        whole = {"sha256": file.sha256}
        transport.request("POST", path, json=whole, repeatable=True, timeout_seconds=COMPLETE_SECONDS)
    if progress:
        progress(file.size_bytes, file.size_bytes)
    return upload.id


class _Sending:
    """Sends the parts of one upload that are missing."""

    def __init__(
        self, transport: Transport, file: LocalFile, upload: _Upload, progress: Progress | None
    ) -> None:
        self._transport = transport
        self._file = file
        self._upload = upload
        self._path = f"/v1/uploads/{upload.id}/parts"
        self._progress = progress

    def run(self) -> None:
        arrived = self._arrived()
        for number in range(1, self._upload.num_parts + 1):
            content = self._read(number)
            if arrived.get(number) != hashlib.sha256(content).hexdigest():
                self._send(number, content)
            if self._progress:
                sent = min(number * self._upload.part_bytes, self._file.size_bytes)
                self._progress(sent, self._file.size_bytes)

    def _arrived(self) -> dict[int, str]:
        listed = _Parts.model_validate_json(self._transport.request("GET", self._path).content)
        return {part.number: part.sha256 for part in listed.data}

    def _read(self, number: int) -> bytes:
        start = (number - 1) * self._upload.part_bytes
        wanted = min(self._upload.part_bytes, self._file.size_bytes - start)
        try:
            with self._file.path.open("rb") as source:
                source.seek(start)
                content = source.read(wanted)
        except OSError as error:
            raise ConfigurationError(f"{self._file.path} cannot be read: {error.strerror}") from error
        if len(content) != wanted:
            raise ConfigurationError(f"{self._file.path} has become shorter while it was sent: send it again")
        return content

    def _send(self, number: int, content: bytes) -> None:
        digest = hashlib.sha256(content)
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(len(content)),
            "Content-Digest": f"sha-256=:{base64.b64encode(digest.digest()).decode()}:",
        }
        path = f"{self._path}/{number}"
        for attempt in range(self._transport.max_retries + 1):
            wait_seconds = 0.0
            try:
                self._transport.request(
                    "PUT", path, content=lambda: iter([content]), headers=headers, max_retries=0
                )
            except (ConnectionFailed, ServerError, RateLimited) as error:
                if not isinstance(error, ConnectionFailed):
                    if error.status not in RETRIED_STATUS:
                        raise
                    wait_seconds = error.retry_after_seconds
                if attempt == self._transport.max_retries:
                    raise
                pause(attempt, f"PUT {path}: {error}", wait_seconds)
                # Perhaps only the answer was lost.
                if self._arrived().get(number) != digest.hexdigest():
                    continue
            return
