"""The API's address: free before the API is started, and written down where this machine's tools find it."""

import errno
import json
import os
import socket
import time
import urllib.error
import urllib.request
from pathlib import Path

from server.errors import CannotStart

LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - to reach it from here, not to bind


def free_port(host: str, port: int, *, patience_seconds: float = 0.0) -> int:
    """The port itself if nobody listens there, or for 0 one that is free now.

    With patience, a port that is taken is tried again: by a predecessor that was killed and is still being cleared up.

    Raises:
        CannotStart: it is taken, or the host is no address of this machine.
    """
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            return _bind(host, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise CannotStart(
                    f"The API cannot listen on {host}:{port} ({error.strerror or error}). "
                    "Choose another with --port (0 picks a free one) or --host, or end what listens there."
                ) from error
        time.sleep(0.1)


def _bind(host: str, port: int) -> int:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = found[0]
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        return int(probe.getsockname()[1])


def url_of(host: str, port: int) -> str:
    """An address under which this machine reaches the API."""
    reachable = LOOPBACK.get(host, host)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


def answers(url: str) -> bool:
    """Whether the API says that it can serve requests."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=2) as response:  # noqa: S310 - the scheme is ours: http
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def write_address(path: Path, url: str) -> None:
    """Leave `{"url": ..., "pid": ...}` for scripts that started the server; it is there once all is ready."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps({"url": url, "pid": os.getpid()}) + "\n")
    temporary.replace(path)
