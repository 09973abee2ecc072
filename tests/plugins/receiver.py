"""A receiver of webhooks on a real socket, which checks signatures with a library that is not ours."""

import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import standardwebhooks

PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Received:
    """One request, as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, secret: str) -> dict[str, Any]:
        """The event, if this secret has signed it just now; else an error."""
        event: dict[str, Any] = standardwebhooks.Webhook(secret).verify(self.body, self.headers)
        return event


class Receiver:
    """Answers 204 unless told otherwise: `answers` are status and headers of the answers to come.

    While `open` is not set, no request is answered.
    """

    def __init__(self, host: str = "127.0.0.1", trusted: ssl.SSLContext | None = None) -> None:
        self.answers: deque[tuple[int, dict[str, str]]] = deque()
        self.received: list[Received] = []
        self.endless = False
        self.open = threading.Event()
        self.open.set()
        self._server = ThreadingHTTPServer((host, 0), self._handler())
        self._server.daemon_threads = True
        if trusted is not None:
            self._server.socket = trusted.wrap_socket(self._server.socket, server_side=True)
        self.port: int = self._server.server_address[1]
        self.url = f"http://{host}:{self.port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def fail(self, *statuses: int, **headers: str) -> None:
        """Answer the next requests so."""
        self.answers.extend((status, headers) for status in statuses)

    def wait_for(self, number: int) -> list[Received]:
        """The requests so far, when there are so many."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(self.received) < number:
            assert time.monotonic() < deadline, f"{len(self.received)} of {number} came"
            time.sleep(0.01)
        return self.received

    def events(self, secret: str) -> list[dict[str, Any]]:
        """What came, each checked."""
        return [one.verified(secret) for one in self.received]

    def close(self) -> None:
        self.open.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.received.append(Received(self.path, headers, body))
                receiver.open.wait(PATIENCE_SECONDS)
                status, more = receiver.answers.popleft() if receiver.answers else (204, {})
                try:
                    self.send_response(status)
                    for name, value in more.items():
                        self.send_header(name.replace("_", "-"), value)
                    self.end_headers()
                    while receiver.endless:
                        self.wfile.write(b"x" * 65536)
                except OSError:
                    pass  # the sender has hung up

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver on this machine."""
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def receivers() -> Iterator[Callable[..., Receiver]]:
    """Makes receivers, on other addresses too, or with a certificate."""
    made: list[Receiver] = []

    def make(**options: Any) -> Receiver:
        made.append(Receiver(**options))
        return made[-1]

    yield make
    for one in made:
        one.close()
