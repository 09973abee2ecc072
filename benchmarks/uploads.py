"""Sending 1 GiB to the service, over `cp`, fsync and `sha256sum` of the same file; and the API's memory meanwhile.

In turn: the file as one request, over a socket and nothing else; by the client, which hashes it first and sends it in
parts; the commands. An upload has ended when the service has it on disk, synced and held against its sha256.
"""

import http.client
import statistics
import subprocess
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from abdistill import Client

from benchmarks.processes import memory_of
from benchmarks.serving import Served, serving
from store import schema
from store.database import Database
from store.keys import create_key
from store.models import DEFAULT_PROJECT

SIZE_BYTES = 2**30
BLOCK_BYTES = 2**20


def measure(rounds: int) -> dict[str, Any]:
    """Send and copy `rounds` / 5 files, each of other bytes: what is known already is not read again."""
    seconds: dict[str, list[float]] = {"one request": [], "client": [], "cp, fsync, sha256sum": []}
    seeds = count()
    with TemporaryDirectory() as name:
        folder = Path(name)
        url = f"sqlite:///{folder / 'abdistill.db'}"
        schema.upgrade(url)
        db = Database(url)
        _, key = create_key(db, DEFAULT_PROJECT, "benchmark")
        db.dispose()
        with (
            serving("api.app:create_app", folder, "--factory", "--no-access-log") as api,
            Client(f"http://127.0.0.1:{api.port}", key) as client,
        ):
            _send(
                api, key, client, _file(folder / "small", next(seeds), BLOCK_BYTES)
            )  # what is imported and opened once
            before = memory_of(api.pid).now
            for _ in range(max(3, rounds // 5)):
                for kind, way in (
                    ("one request", lambda file: _send(api, key, client, file)),
                    ("client", lambda file: client.datasets.upload(_new(client), file)),
                    ("cp, fsync, sha256sum", _copy),
                ):
                    seconds[kind].append(_timed(way, _file(folder / "file", next(seeds), SIZE_BYTES)))
            growth = memory_of(api.pid).peak - before
    return {
        "setting": f"A file of {SIZE_BYTES / 2**30:g} GiB, the API as one process, SQLite and a folder",
        "seconds": {kind: [round(each, 2) for each in of] for kind, of in seconds.items()},
        "figures": {
            **{
                figure: round(_ratio(seconds[kind], seconds["cp, fsync, sha256sum"]), 3)
                for figure, kind in (("one_request", "one request"), ("client", "client"))
            },
            "growth_mib": round(growth / 2**20, 1),
        },
    }


def _ratio(these: list[float], those: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(these, those, strict=True))


def _timed(way: Callable[[Path], object], file: Path) -> float:
    started = time.perf_counter()
    way(file)
    return time.perf_counter() - started


def _new(client: Client) -> str:
    return client.datasets.create("d", filename="d.zip").id


def _send(api: Served, key: str, client: Client, file: Path) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", api.port)
    headers = {"Authorization": f"Bearer {key}", "Content-Length": str(file.stat().st_size)}
    with file.open("rb") as content:
        connection.request("PUT", f"/v1/datasets/{_new(client)}/content", content, headers)
    answer = connection.getresponse()
    assert answer.status == 202, answer.read()
    connection.close()


def _copy(file: Path) -> None:
    copy = file.with_name("copy")
    subprocess.run(["cp", file, copy], check=True)
    subprocess.run(["sync", copy], check=True)
    subprocess.run(["sha256sum", copy], check=True, stdout=subprocess.DEVNULL)
    copy.unlink()


def _file(path: Path, seed: int, size: int) -> Path:
    """A file of such bytes as nothing compresses, on the disk before anything is timed."""
    generator = np.random.default_rng(seed)
    with path.open("wb") as file:
        for _ in range(size // BLOCK_BYTES):
            file.write(generator.bytes(BLOCK_BYTES))
    subprocess.run(["sync", path], check=True)
    return path
