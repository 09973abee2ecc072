"""A real API over SQLite, a hand that does the worker's part, and a TCP proxy that breaks connections."""

import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from abdistill import Client

from abcore import events as told
from abcore.specs.architectures import ImageShape, ModelSpec, Normalization, WideResNet
from abcore.specs.refusals import Problem
from abcore.specs.reports import (
    Accuracy,
    DatasetReport,
    DistillReport,
    EvaluationReport,
    Export,
    FoundSize,
    ModelDescription,
    SampleSheet,
    SplitReport,
    TapSimilarity,
    TeacherReport,
)
from api.app import create_app
from store import leases, progress, schema
from store.blobs import open_blobs
from store.database import Database
from store.keys import create_key
from store.leases import NewArtifact
from store.models import DEFAULT_PROJECT
from store.settings import Settings

PATIENCE_SECONDS = 30.0
LEASE_SECONDS = 3600.0
"""Longer than the tests: a lease that a test left must not run out in another, whose queue it would join."""
IMAGE = ImageShape(channels=1, height=8, width=8)
MODEL = ModelSpec(architecture=WideResNet(arch="wide_resnet", depth=16, width=2), image=IMAGE, num_classes=10)
STUDENT = {"arch": "wide_resnet", "depth": 10, "width": 1}
ALONE = {"transfer": None, "finetune": {"epochs": 2, "cross_entropy_weight": 1.0, "kd_weight": 0.0}}


def describe(model: ModelSpec) -> ModelDescription:
    """As a verification would; the figures are not looked at."""
    return ModelDescription(
        spec=model, num_parameters=691_674, num_macs=6_000_000, size_bytes=2_770_000, taps=()
    )


class Backstage:
    """What a worker does, done by hand through the store."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(
            data_dir=folder,
            lease_seconds=LEASE_SECONDS,  # the sweeper cuts longer ones
            upload_part_bytes=2**18,
            import_from=(folder / "shelf").as_uri(),
            webhook_allow_http=True,
            webhook_allow_private=True,
            webhook_poll_seconds=0.05,
        )
        schema.upgrade(self.settings.database_url)
        self.db = Database(self.settings.database_url)
        self.blobs = open_blobs(self.settings.blobs_url)
        _, self.key = create_key(self.db, DEFAULT_PROJECT, "tests")

    def claim(self) -> leases.Lease:
        """The next piece of work."""
        lease = leases.claim(self.db, "tests", LEASE_SECONDS)
        assert lease is not None, "nothing was queued"
        return lease

    def accept(self) -> None:
        """Find the upload that waits good."""
        lease = self.claim()
        kind = lease.job.kind.removeprefix("verify_")
        report: TeacherReport | DatasetReport
        if kind == "teacher":
            report = TeacherReport(description=describe(MODEL), format="torch", dtype="float32")
        else:
            report = DatasetReport(
                format="npz",
                image=IMAGE,
                classes=tuple("0123456789"),
                splits={"train": SplitReport(num_images=100, class_counts=(10,) * 10)},
                normalization=Normalization(mean=(0.3,), std=(0.4,)),
                found_sizes=(FoundSize(width=9, height=8, num_images=100),),
                num_found_sizes=1,
                imbalance=1.0,
                samples=SampleSheet(rows=tuple(range(10)), columns=10, tile_width=10, tile_height=10),
            )
        made = [self.artifact(lease, f"{kind}.safetensors", kind, b"verified")]
        if kind == "dataset":
            made.append(self.artifact(lease, "samples.png", "samples", b"a picture"))
        leases.finish(self.db, lease, report, made)

    def measure(self) -> None:
        """Find out how good a teacher is, as soon as somebody asks."""
        leased: list[leases.Lease] = []
        poll(lambda: leased or leased.extend(filter(None, [leases.claim(self.db, "tests", LEASE_SECONDS)])))
        accuracy = Accuracy(top1=0.97, top5=1.0, loss=0.1, num_images=100)
        warning = Problem(code="teacher.at_chance", message="It knows nothing.", where="dataset:test")
        report = EvaluationReport(accuracy={"test": accuracy}, warnings=(warning,))
        leases.finish(self.db, leased[0], report, [])

    def reject(self) -> None:
        """Find the upload that waits unusable."""
        problem = Problem(
            code="checkpoint.shape",
            message="The shape is (10, 64), not (10, 128).",
            where="checkpoint:fc.weight",
            allowed=("(10, 128)",),
            hint="Give the width that the checkpoint was trained with.",
        )
        leases.fail(self.db, self.claim(), [problem])

    def train(self, lease: leases.Lease) -> None:
        """Tell of a phase with its figures."""
        records: list[told.Record] = [told.PhaseStarted(phase="finetune", epochs=2, steps_per_epoch=10)]
        for epoch in range(2):
            values = {"loss": 1.0 / (epoch + 1), "eval/top1": 0.5 + 0.4 * epoch}
            records.append(told.Metrics(phase="finetune", epoch=epoch, step=10 * (epoch + 1), values=values))
        records.append(
            told.Progress(
                phase="finetune", epoch=1, step=20, fraction=0.9, images_per_second=1e4, eta_seconds=0.5
            )
        )
        records.append(told.PhaseFinished(phase="finetune", seconds=1.5))
        progress.record(self.db, lease, records)

    def succeed(self, lease: leases.Lease, student: bytes) -> None:
        """End a job with these bytes as its student."""
        described = describe(MODEL)
        accuracy = {"val": Accuracy(top1=0.97, top5=1.0, loss=0.1, num_images=100)}
        report = DistillReport(
            student=described,
            teacher=described,
            student_accuracy=accuracy,
            teacher_accuracy=accuracy,
            agreement={"val": 0.98},
            boundary_similarity=(TapSimilarity(student="relu", teacher="relu", before=0.5, after=0.9),),
            exports=(
                Export(format="onnx", file="student.onnx", size_bytes=len(student), accuracy=accuracy),
                Export(format="pt2", file=None, error="An operator is unknown."),
            ),
            training_seconds=2.0,
            versions={},
        )
        files = [
            self.artifact(lease, name, "student", student) for name in ("student.safetensors", "student.onnx")
        ]
        leases.finish(self.db, lease, report, files)

    def artifact(self, lease: leases.Lease, name: str, kind: str, content: bytes) -> NewArtifact:
        """A file in the blob store."""
        with self.blobs.writer(f"jobs/{lease.job.id}/{lease.epoch}/{name}") as writer:
            writer.write(content)
            blob = writer.commit()
        return NewArtifact(name, kind, "application/octet-stream", blob.size, blob.sha256, blob.key)

    def ready_dataset(self, client: Client, file: Path) -> str:
        """The id of a dataset that jobs can use."""
        dataset = client.datasets.add(file, wait=False)
        self.accept()
        return client.datasets.wait(dataset.id).id

    def submit(self, client: Client, file: Path, **given: Any) -> str:
        """The id of a queued job of a student alone."""
        dataset = self.ready_dataset(client, file)
        return client.jobs.create(dataset=dataset, student=STUDENT, recipe=ALONE, **given).id


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backstage]:
    """One database and blob store for all; tests leave nothing queued."""
    backstage = Backstage(tmp_path_factory.mktemp("house"))
    yield backstage
    backstage.db.dispose()


@pytest.fixture(scope="session")
def api_port(house: Backstage) -> Iterator[int]:
    """The real API in a thread of this process."""
    server = uvicorn.Server(uvicorn.Config(create_app(house.settings), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    poll(lambda: server.started or not thread.is_alive())
    assert server.started
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()


@pytest.fixture
def backstage(house: Backstage) -> Iterator[Backstage]:
    yield house
    while (lease := leases.claim(house.db, "cleaning", LEASE_SECONDS)) is not None:
        leases.fail(house.db, lease, [Problem(code="test", message="The test is over.")])


@pytest.fixture
def client(api_port: int, backstage: Backstage) -> Iterator[Client]:
    """Straight to the API."""
    with Client(f"http://127.0.0.1:{api_port}", backstage.key) as client:
        yield client


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """3 MB that differ from test to test."""
    path = tmp_path / "images.npz"
    path.write_bytes(os.urandom(3_000_000))
    return path


@pytest.fixture
def run_cli(api_port: int, backstage: Backstage) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command as a user runs it, in a process of its own."""

    def run(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "abdistill", *map(str, words)],
            env=cli_environment(api_port, backstage) | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def cli_environment(api_port: int, backstage: Backstage) -> dict[str, str]:
    """Where the command finds the API."""
    address = {"ABDISTILL_URL": f"http://127.0.0.1:{api_port}", "ABDISTILL_API_KEY": backstage.key}
    return dict(os.environ) | address | {"COLUMNS": "120"}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def poll(what: Callable[[], object]) -> None:
    """Return when it is true; fail when it does not become so."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not what():
        assert time.monotonic() < deadline, f"did not happen within {PATIENCE_SECONDS:g} s"
        time.sleep(0.02)


class Proxy:
    """Stands between client and API on real sockets, and breaks what it is told to break.

    `down` and `up` hold, for each connection to come, after how many bytes it is cut; `answers` hold raw responses
    that are given instead of the API's. Without orders a connection passes through. `requests` are the heads that came.
    """

    def __init__(self, target: int) -> None:
        self.down: deque[int] = deque()
        self.up: deque[int] = deque()
        self.answers: deque[bytes] = deque()
        self.requests: list[str] = []
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def cut(self, *, down: Sequence[int] = (), up: Sequence[int] = ()) -> None:
        """Cut the connections to come after so many bytes; those that are open end now, so that new ones are made."""
        self._end_open()
        self.down.extend(down)
        self.up.extend(up)

    def heads(self, start: str) -> list[str]:
        """The requests that began so."""
        return [head for head in self.requests if head.startswith(start)]

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        self._end_open()

    def _end_open(self) -> None:
        while self._open:
            with suppress(OSError):
                self._open.pop().shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        self._open.add(near)
        with near:
            if self.answers:
                received = b""
                while b"\r\n\r\n" not in received and (chunk := near.recv(65536)):
                    received += chunk
                self.requests.append(received.partition(b"\r\n\r\n")[0].decode())
                near.sendall(self.answers.popleft())
                return
            with socket.create_connection(("127.0.0.1", self._target)) as far:
                self._open.add(far)
                up = threading.Thread(target=self._pump, args=(near, far, _next(self.up)), daemon=True)
                up.start()
                self._pump(far, near, _next(self.down))
                up.join()

    def _pump(self, source: socket.socket, sink: socket.socket, limit: float) -> None:
        """Copy until the end or the limit, then end both connections."""
        passed = 0
        with suppress(OSError):
            # With a limit of 0 the first answer is waited for and withheld: what was asked has been done.
            while passed < limit or not passed:
                if not (chunk := source.recv(16384)):
                    break
                if b" HTTP/1.1\r\n" in chunk[:400]:
                    self.requests.append(chunk.partition(b"\r\n\r\n")[0].decode())
                if passed >= limit:
                    break
                # Not a byte more: how much comes at once depends on how busy the machine is.
                sink.sendall(chunk[: int(min(limit - passed, len(chunk)))])
                passed += len(chunk)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def _next(orders: deque[int]) -> float:
    return orders.popleft() if orders else float("inf")


@pytest.fixture
def proxy_to() -> Iterator[Callable[[int], Proxy]]:
    """Makes proxies before ports, which end with the test."""
    with ExitStack() as made:

        def make(port: int) -> Proxy:
            proxy = Proxy(port)
            made.callback(proxy.close)
            return proxy

        yield make


@pytest.fixture
def proxy(api_port: int, proxy_to: Callable[[int], Proxy]) -> Proxy:
    return proxy_to(api_port)


@pytest.fixture
def shaky(proxy: Proxy, backstage: Backstage, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """Through the proxy; pauses between attempts are cut short."""
    monkeypatch.setattr("abdistill.transport.FIRST_PAUSE_SECONDS", 0.01)
    with Client(f"http://127.0.0.1:{proxy.port}", backstage.key) as client:
        yield client
