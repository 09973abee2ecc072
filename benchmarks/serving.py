"""One process of uvicorn that serves an app from a folder of its own, without a worker or a broker."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from os import environ
from pathlib import Path
from typing import NamedTuple

from leash import spawn

START_SECONDS = 60.0


class Served(NamedTuple):
    """Where it listens, and which process it is."""

    port: int
    pid: int


@contextmanager
def serving(app: str, folder: Path, *options: str) -> Iterator[Served]:
    """Start an app by its import string, with these options of uvicorn, and stop it at the end.

    Raises:
        RuntimeError: it did not start.
    """
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    settings = {
        "ABDISTILL_KEY_REQUESTS": "0",
        "ABDISTILL_DATA_DIR": str(folder),
        "ABDISTILL_DATABASE_URL": f"sqlite:///{folder / 'abdistill.db'}",
        "ABDISTILL_BROKER_URL": f"redis+socket://{folder / 'nobody.sock'}",  # nobody is there to be rung for
    }
    command = [sys.executable, "-m", "uvicorn", app, "--port", str(port), *options]
    process = spawn(
        command, env=dict(environ) | settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                if process.wait(timeout=0.1) is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{app} did not start") from None
        yield Served(port, process.command_pid)
    finally:
        process.terminate()
        process.wait()
