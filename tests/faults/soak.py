"""`python -m faults.soak`: two thousand small jobs through one API and one worker, and how much memory each holds.

Neither may grow with the number of jobs. Both are the real programs on SQLite and a folder, and users do with each job
what users do. What trains is the worker's tests' stand-in child, which tells, checkpoints and leaves a student like a
real one, in a fraction of a second: it is a process of its own, whose memory goes with it, and is not measured.
"""

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from statistics import linear_regression
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from faults.grounds import sqlite_and_folder
from faults.processes import Kept
from faults.service import RECIPES, Service

NUM_USERS = 4
NUM_ROWS = 10
SAMPLE_SECONDS = 1.0
MOST_BYTES_A_JOB = 4096
"""Growth over the second half of the jobs that still counts as none: 8 MiB over 2,000 jobs."""
WORKER_TESTS = Path(__file__).parents[1] / "worker"


class Sample(NamedTuple):
    """Resident memory when so many jobs were done."""

    jobs: int
    seconds: float
    api_bytes: int
    worker_bytes: int


def main() -> int:
    """Return 0 if neither API nor worker grew."""
    parser = argparse.ArgumentParser(prog="python -m faults.soak", description=__doc__)
    parser.add_argument("--jobs", type=int, default=2000)
    num_jobs: int = parser.parse_args().jobs
    with (
        tempfile.TemporaryDirectory(prefix="abdistill-soak-") as place,
        sqlite_and_folder(Path(place)) as ground,
    ):
        service = Service(Path(place), ground)
        try:
            service.start()
            worker = _exchange_workers(service)
            samples = list(_soak(service, worker, num_jobs))
            all_done = samples[-1].jobs == num_jobs
        finally:
            service.end()
    return 0 if _report(samples) and all_done else 1


def _exchange_workers(service: Service) -> Kept:
    """One worker, of two slots, in place of those that verified what jobs need."""
    for kept in service.workers:
        kept.stop()
    child = [sys.executable, str(WORKER_TESTS / "child.py"), "quick", str(service.folder)]
    command = [sys.executable, "-P", str(WORKER_TESTS / "worker_process.py"), *child]
    settings = service.environment | {"ABDISTILL_WORKER_SLOTS": "2"}
    service.workers = [Kept("worker", command, settings, service.folder)]
    service.workers[0].start()
    return service.workers[0]


def _soak(service: Service, worker: Kept, num_jobs: int) -> Iterator[Sample]:
    """Sample while users are at work, and at their end."""
    numbers, done, began = count(), [], time.monotonic()

    def use() -> None:
        while (number := next(numbers)) < num_jobs:
            _one_job(service, number)
            done.append(number)

    users = [threading.Thread(target=use, daemon=True) for _ in range(NUM_USERS)]
    for user in users:
        user.start()
    while any(user.is_alive() for user in users):
        time.sleep(SAMPLE_SECONDS)
        seconds = time.monotonic() - began
        yield Sample(len(done), seconds, _resident_bytes(service.api.pid), _resident_bytes(worker.pid))


def _one_job(service: Service, number: int) -> None:
    """What a user does with a job, from asking for it to having its student."""
    id_ = service.submit(number % len(RECIPES))
    jobs = service.client.jobs
    jobs.wait(id_)
    jobs.list(limit=20)
    jobs.metrics(id_)
    jobs.events(id_)
    jobs.download(id_, target=service.folder / f"student-{number % NUM_USERS}").unlink()


def _resident_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(f"{pid} has ended")


def _report(samples: list[Sample]) -> bool:
    """Print what was held, and return whether neither grew over the second half of the jobs."""
    last = samples[-1]
    table = Table(title=f"{last.jobs} jobs in {last.seconds / 60:.1f} minutes: resident memory, MiB")
    for column in ("jobs done", "API", "worker"):
        table.add_column(column, justify="right")
    for row in range(1, NUM_ROWS + 1):
        sample = next(one for one in samples if one.jobs >= last.jobs * row // NUM_ROWS)
        table.add_row(
            str(sample.jobs), f"{sample.api_bytes / 2**20:.1f}", f"{sample.worker_bytes / 2**20:.1f}"
        )
    console = Console(width=100)
    console.print(table)
    second_half = [one for one in samples if one.jobs >= last.jobs / 2]
    flat = True
    for name in ("api", "worker"):
        held = [getattr(one, f"{name}_bytes") for one in second_half]
        slope = linear_regression([one.jobs for one in second_half], held).slope
        console.print(
            f"{name}: {slope:+.0f} bytes a job over the second half, at most {MOST_BYTES_A_JOB} allowed"
        )
        flat = flat and slope <= MOST_BYTES_A_JOB
    return flat


if __name__ == "__main__":
    sys.exit(main())
