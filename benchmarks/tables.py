"""A database with 100,000 jobs over one with 100: to list jobs, to get one, to claim one. On SQLite, as `up` has it."""

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.jobs import NUM_WAITING, database_of
from store.database import Database
from store.job_lists import JobFilter, list_jobs
from store.jobs import get
from store.leases import claim
from store.models import DEFAULT_PROJECT

FEW, MANY = 100, 100_000


def measure(rounds: int) -> dict[str, Any]:
    """Time each question on both, in turn; a claim takes a job each time, so there are at most as many as wait."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        databases = {}
        for size in (FEW, MANY):
            databases[size] = database_of(f"sqlite:///{folder / f'{size}.db'}", size)
            stack.callback(databases[size].dispose)
        questions: dict[str, Callable[[Database], object]] = {
            "list": lambda db: list_jobs(db, DEFAULT_PROJECT),
            "list of one state": lambda db: list_jobs(db, DEFAULT_PROJECT, JobFilter(states=("queued",))),
            "get": _getter(databases),
            "claim": lambda db: claim(db, "benchmark", 3600.0),
        }
        seconds = {name: _times(ask, databases, rounds) for name, ask in questions.items()}
    return {
        "setting": f"{MANY:,} jobs over {FEW}, SQLite",
        "milliseconds": {
            name: {size: round(statistics.median(of) * 1000, 3) for size, of in times.items()}
            for name, times in seconds.items()
        },
        "figures": {
            name: round(statistics.median(times[MANY]) / statistics.median(times[FEW]), 3)
            for name, times in seconds.items()
        },
    }


def _getter(databases: dict[int, Database]) -> Callable[[Database], object]:
    known = {
        id(db): list_jobs(db, DEFAULT_PROJECT, order="oldest", limit=50).items[-1].id
        for db in databases.values()
    }
    return lambda db: get(db, DEFAULT_PROJECT, known[id(db)])


def _times(
    ask: Callable[[Database], object], databases: dict[int, Database], rounds: int
) -> dict[int, list[float]]:
    times: dict[int, list[float]] = {size: [] for size in databases}
    for number in range(min(NUM_WAITING - 1, 4 * rounds)):
        for size, db in databases.items():
            started = time.perf_counter()
            assert ask(db) is not None
            if number:  # the first one compiles its statement
                times[size].append(time.perf_counter() - started)
    return times
