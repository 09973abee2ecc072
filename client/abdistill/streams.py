"""A job's stream of server-sent events, read to its end however often the connection breaks."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx

from abdistill.errors import RateLimited, ServerError
from abdistill.transport import RETRIED_STATUS, Transport, pause


class Message(NamedTuple):
    """What the service said: `job`, `event`, `metrics`, `log` or `end`, and its content."""

    kind: str
    content: Any


def read_stream(transport: Transport, url_path: str, last_id: str | None = None) -> Iterator[Message]:
    """Yield messages until `end`, each once: after a lost connection the service goes on behind the last one.

    With `last_id` it begins behind the message of that id.

    Raises:
        ApiError: refused. ConnectionFailed: the connection stayed lost.
    """
    failures = 0
    while True:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
        wait_seconds = 0.0
        try:
            with transport.stream(url_path, headers) as response:
                for id_, message in _messages(response):
                    last_id, failures = id_, 0
                    yield message
                    if message.kind == "end":
                        return
            cause: Exception = httpx.RemoteProtocolError("the stream ended early")
        except httpx.TransportError as error:
            cause = error
        except (ServerError, RateLimited) as error:
            if error.status not in RETRIED_STATUS:
                raise
            cause, wait_seconds = error, error.retry_after_seconds
        failures += 1
        if failures > transport.max_retries:
            if isinstance(cause, httpx.TransportError):
                raise transport.connection_failed(cause) from cause
            raise cause
        pause(failures - 1, f"GET {url_path} after {last_id}: {cause!r}", wait_seconds)


def _messages(response: httpx.Response) -> Iterator[tuple[str, Message]]:
    fields: dict[str, str] = {}
    for line in response.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            yield fields["id"], Message(fields["event"], json.loads(fields["data"]))
            fields = {}
