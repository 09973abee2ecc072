"""The service of the demo: started in a folder of its own on a free port, and gone when the demo is."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from abdistill import Client

from leash import Leashed, spawn

JOBS_AT_ONCE = 2
START_SECONDS = 90
STOP_SECONDS = 60


@contextmanager
def running_service(data_dir: Path, log: Path, *, slots: int = JOBS_AT_ONCE) -> Iterator[Client]:
    """Start `abdistill-server up` with so many slots, give a client of it, and stop it at the end, also after an error.

    It runs on a leash: even a demo that is killed leaves no process behind.

    Raises:
        SystemExit: it did not start; its last lines say why.
    """
    command = [sys.executable, "-m", "server", "up", "--port", "0", "--data-dir", str(data_dir)]
    environment = dict(os.environ) | {"ABDISTILL_WORKER_SLOTS": str(slots)}
    with log.open("wb") as output:
        process = spawn(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, grace_seconds=STOP_SECONDS
        )
        try:
            url = _wait_for_address(process, data_dir / "address.json", log)
            with Client(url, (data_dir / "api-key").read_text().strip()) as client:
                yield client
        finally:
            process.terminate()
            process.wait()


def _wait_for_address(process: Leashed, file: Path, log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while not file.exists():
        if process.wait(timeout=0.1) is not None or time.monotonic() > deadline:
            last = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise SystemExit(f"The service did not start. The end of {log}:\n{last}")
    url: str = json.loads(file.read_text())["url"]
    return url
