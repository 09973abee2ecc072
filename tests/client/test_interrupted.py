"""2 GiB in parts to an API in a process of its own, over a connection that is cut at random all the way."""

import hashlib
import os
import random
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from abdistill import Client
from abdistill.errors import ConnectionFailed

from store import part_uploads, schema
from store.blobs import open_blobs, read_joined
from store.database import Database
from store.keys import create_key
from store.models import DEFAULT_PROJECT
from store.settings import Settings

SIZE_BYTES = 2**31
BLOCK_BYTES = 2**22
LONGEST_BYTES = 2**26
"""Before a connection is cut: four parts."""
MOST_GROWTH_BYTES = 64 * 2**20
PATIENCE_SECONDS = 60.0
PUT = re.compile(r"PUT /v1/uploads/(\w+)/parts/(\d+) ")


class Watched(list[str]):
    """The requests that came to the proxy: counts a part that is sent though it has arrived."""

    def __init__(self, db: Database) -> None:
        super().__init__()
        self.sent: Counter[int] = Counter()
        self.sent_again = 0
        self._db = db

    def append(self, head: str) -> None:
        super().append(head)
        if put := PUT.match(head):
            number = int(put[2])
            self.sent[number] += 1
            self.sent_again += number in {part.number for part in part_uploads.parts(self._db, put[1])}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = Settings(data_dir=tmp_path / "data", port=port)
    schema.upgrade(settings.database_url)
    return settings


@pytest.fixture
def api(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """The API as the service runs it, without a worker."""
    told = {"ABDISTILL_DATA_DIR": str(settings.data_dir), "ABDISTILL_PORT": str(settings.port)}
    process = subprocess.Popen([sys.executable, "-m", "api"], env=os.environ | told)

    deadline = time.monotonic() + PATIENCE_SECONDS
    try:
        while not _serves(settings.port):
            assert process.poll() is None, "the API has ended"
            assert time.monotonic() < deadline, "the API did not come up"
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait()


def _serves(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz").is_success
    except httpx.TransportError:
        return False


def memory_bytes(process: subprocess.Popen[bytes], which: str) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.findall(rf"{which}:\s+(\d+) kB", status)[0]) * 1024


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads a process's memory as Linux tells it")
def test_two_gib_cut_at_random_arrive_and_no_part_is_sent_that_has_arrived(
    settings: Settings, api: Any, proxy_to: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("abdistill.transport.FIRST_PAUSE_SECONDS", 0.01)
    chance, digest, path = random.Random(11), hashlib.sha256(), tmp_path / "large.npz"
    with path.open("wb") as out:
        for _ in range(SIZE_BYTES // BLOCK_BYTES):
            digest.update(block := chance.randbytes(BLOCK_BYTES))
            out.write(block)
    db, proxy = Database(settings.database_url), proxy_to(settings.port)
    proxy.requests = watched = Watched(db)
    _, key = create_key(db, DEFAULT_PROJECT, "tests")
    cuts = [chance.randrange(LONGEST_BYTES) for _ in range(10_000)]
    proxy.cut(up=cuts, down=[chance.choice([0, 2**40, 2**40, 2**40]) for _ in cuts])
    before, began, given_up = memory_bytes(api, "VmRSS"), time.monotonic(), 0
    try:
        with Client(f"http://127.0.0.1:{settings.port}", key) as direct:
            dataset = direct.datasets.create("d", path.name)
        with Client(f"http://127.0.0.1:{proxy.port}", key, max_retries=2) as client:
            while True:
                try:
                    client.datasets.upload(dataset.id, path)
                    break
                except ConnectionFailed:
                    given_up += 1
        seconds = time.monotonic() - began
        (upload,) = part_uploads.list_(db, DEFAULT_PROJECT).items
        parts = part_uploads.parts(db, upload.id)
        stored = hashlib.sha256()
        for chunk in read_joined(open_blobs(settings.blobs_url), [part.blob_key for part in parts]):
            stored.update(chunk)
        growth = memory_bytes(api, "VmHWM") - before
        print(
            f"{seconds:.0f} s, {len(cuts) - len(proxy.up)} connections, {given_up} senders that gave up, "
            f"{len(parts)} parts, {watched.sent.total()} sent, {watched.sent_again} of them that had arrived, "
            f"the API grew by {growth / 2**20:.0f} MiB"
        )
        assert stored.hexdigest() == digest.hexdigest()
        assert len(parts) == upload.num_parts == SIZE_BYTES // settings.upload_part_bytes
        assert watched.sent_again == 0
        assert watched.sent.total() > len(parts), "some were cut on their way"
        assert growth < MOST_GROWTH_BYTES
    finally:
        db.dispose()
