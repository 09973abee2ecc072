"""Asking for a job over HTTP, by four clients that each wait for their answer, over what an empty handler does.

Both are one process of uvicorn that logs each request in a line (the empty handler's is uvicorn's own). Asked in turn:
a GET of a job, the same with its ETag (304), the empty handler. Shown beside them, without a target: GETs that each ask
for another job, of which no answer is kept (`api/polls.py`), and the empty handler without a log.
"""

import socket
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from itertools import cycle, repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fastapi import FastAPI
from sqlalchemy import select

from benchmarks.jobs import database_of
from benchmarks.serving import serving
from store.keys import create_key
from store.models import DEFAULT_PROJECT, Job

NUM_CLIENTS = 4
TURN_SECONDS = 0.5
NUM_JOBS = 5000

empty = FastAPI()


@empty.get("/")
async def nothing() -> dict[str, str]:
    """What costs what the framework costs."""
    return {}


def measure(rounds: int) -> dict[str, Any]:
    """Give each kind of request half a second in turn, `rounds` times."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        db = database_of(f"sqlite:///{folder / 'abdistill.db'}", NUM_JOBS)
        _, key = create_key(db, DEFAULT_PROJECT, "benchmark")
        with db.read() as session:
            paths = [f"/v1/jobs/{id_}" for id_ in session.scalars(select(Job.id))]
        db.dispose()
        ours = stack.enter_context(serving("api.app:create_app", folder, "--factory", "--no-access-log")).port
        theirs = stack.enter_context(serving("benchmarks.requests:empty", folder)).port
        silent = stack.enter_context(serving("benchmarks.requests:empty", folder, "--no-access-log")).port
        authorization = f"Authorization: Bearer {key}"
        with closing(Asker(ours, repeat(_request(paths[0], authorization)))) as asker:
            etag = asker.ask().split(b"\r\netag: ", 1)[1].split(b"\r\n", 1)[0].decode()
        each = cycle([_request(path, authorization) for path in paths])
        kinds: dict[str, Callable[[], Asker]] = {
            "empty": lambda: Asker(theirs, repeat(_request("/"))),
            "empty, no log": lambda: Asker(silent, repeat(_request("/"))),
            "get": lambda: Asker(ours, repeat(_request(paths[0], authorization))),
            "get, nothing new": lambda: Asker(
                ours, repeat(_request(paths[0], authorization, f"If-None-Match: {etag}"))
            ),
            "get, each another": lambda: Asker(ours, each),
        }
        turns: dict[str, list[list[float]]] = {name: [] for name in kinds}
        for _ in range(rounds):
            for name, asker_of in kinds.items():
                turns[name].append(_turn(asker_of))
    return _summary(turns)


def _summary(turns: dict[str, list[list[float]]]) -> dict[str, Any]:
    rates = {name: [len(turn) / TURN_SECONDS for turn in of] for name, of in turns.items()}

    def ratio(name: str) -> float:
        return round(statistics.median(a / b for a, b in zip(rates[name], rates["empty"], strict=True)), 3)

    def percentile(name: str, percent: int) -> float:
        waits = sorted(seconds for turn in turns[name] for seconds in turn)
        return waits[len(waits) * percent // 100]

    return {
        "setting": f"{NUM_CLIENTS} clients, one process each, SQLite",
        "requests a second": {name: round(statistics.median(of)) for name, of in rates.items()},
        "milliseconds": {
            name: {f"p{percent}": round(1000 * percentile(name, percent), 2) for percent in (50, 99)}
            for name in turns
        },
        "figures": {
            "get": ratio("get"),
            "not_modified": ratio("get, nothing new"),
            "p99_over_p50": round(percentile("get", 99) / percentile("get", 50), 2),
            "each_another": ratio("get, each another"),
        },
    }


def _turn(asker_of: Callable[[], "Asker"]) -> list[float]:
    end = time.perf_counter() + TURN_SECONDS

    def go(_number: int) -> list[float]:
        seconds = []
        with closing(asker_of()) as asker:
            asker.ask()
            while (started := time.perf_counter()) < end:
                asker.ask()
                seconds.append(time.perf_counter() - started)
        return seconds

    with ThreadPoolExecutor(NUM_CLIENTS) as clients:
        return [each for of_client in clients.map(go, range(NUM_CLIENTS)) for each in of_client]


def _request(path: str, *headers: str) -> bytes:
    return "\r\n".join((f"GET {path} HTTP/1.1", "Host: 127.0.0.1", *headers, "", "")).encode()


class Asker:
    """One kept connection that sends request after request, with as little work of its own as can be."""

    def __init__(self, port: int, requests: Iterator[bytes]) -> None:
        self._requests = requests
        self._socket = socket.create_connection(("127.0.0.1", port))

    def ask(self) -> bytes:
        """Return the head of the answer, once all of it is here."""
        self._socket.sendall(next(self._requests))
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._socket.recv(65536)
        head, body = received.split(b"\r\n\r\n", 1)
        status = head.split(b" ", 2)[1]
        assert status in (b"200", b"304"), head
        if status == b"200":
            length = int(head.split(b"\r\ncontent-length: ", 1)[1].split(b"\r\n", 1)[0])
            while len(body) < length:
                body += self._socket.recv(65536)
        return head

    def close(self) -> None:
        """Let go of the connection."""
        self._socket.close()
