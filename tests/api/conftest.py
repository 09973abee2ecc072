"""The real API behind a real server, over a real database, with a hand that does the worker's part."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from plugins.postgres import new_database
from sqlalchemy import delete, update

from abcore.specs.architectures import ImageShape, ModelSpec, Normalization
from abcore.specs.refusals import Problem
from abcore.specs.reports import (
    DatasetReport,
    DistillReport,
    ModelDescription,
    SplitReport,
    TeacherReport,
)
from api.app import create_app
from api.delivery.deliverer import Deliverer
from store import leases, schema
from store.blobs import open_blobs
from store.columns import unix_now
from store.database import Database
from store.keys import create_key
from store.leases import Lease, NewArtifact
from store.models import DEFAULT_PROJECT, ENDED, Delivery, Job, Project, Webhook
from store.settings import Settings

PATIENCE_SECONDS = 60.0
LEASE_SECONDS = 3600.0
"""Longer than the tests: a lease that a test left must not run out in another, whose queue it would join."""
PATIENT: dict[str, Any] = {"lease_seconds": LEASE_SECONDS}
"""Or the sweeper would cut such leases to what a worker's may be."""
IMAGE = {"channels": 1, "height": 8, "width": 8}
MODEL: dict[str, Any] = {
    "architecture": {"arch": "wide_resnet", "depth": 16, "width": 2},
    "image": IMAGE,
    "num_classes": 10,
}
STUDENT = {"arch": "wide_resnet", "depth": 10, "width": 1}
ALONE = {"transfer": None, "finetune": {"epochs": 2, "cross_entropy_weight": 1.0, "kd_weight": 0.0}}
MOST_UPLOAD_BYTES = 16 * 2**20
WEBHOOKS: dict[str, Any] = {
    "webhook_allow_http": True,
    "webhook_allow_private": True,
    "webhook_poll_seconds": 3600.0,
}
"""To receivers on this machine, and only when a test says `deliver`."""


def poll(condition: Callable[[], Any]) -> Any:
    """What the condition gives as soon as it is true."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if outcome := condition():
            return outcome
        time.sleep(0.02)
    raise AssertionError("waited in vain")


class Service:
    """A running API, and what stands behind it. `client` asks with a key of the default project."""

    def __init__(self, app: FastAPI, settings: Settings, port: int) -> None:
        self.app, self.settings, self.port = app, settings, port
        self.db = Database(settings.database_url)
        self.blobs = open_blobs(settings.blobs_url)
        self.url = f"http://127.0.0.1:{port}"
        _, self.key = create_key(self.db, DEFAULT_PROJECT, "tests")
        self.client = self.client_of(self.key)

    def client_of(self, key: str | None) -> httpx.Client:
        """A client that sends this key."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=PATIENCE_SECONDS)

    def key_of_another_project(self) -> str:
        """The secret of a key that must not see anything of the default project."""
        with self.db.write() as session:
            session.merge(Project(id="prj_other", name="other"))
        return create_key(self.db, "prj_other", "stranger")[1]

    def close(self) -> None:
        """Let go of the database."""
        self.client.close()
        self.db.dispose()

    def create(self, kind: str, **fields: Any) -> dict[str, Any]:
        """A teacher or a dataset without content."""
        body = {"teacher": {"name": "t", "model": MODEL}, "dataset": {"name": "d", "filename": "d.npz"}}[kind]
        answer = self.client.post(f"/v1/{kind}s", json=body | fields)
        assert answer.status_code == 201, answer.text
        created: dict[str, Any] = answer.json()
        return created

    def ready(self, kind: str, report: DatasetReport | None = None, **fields: Any) -> str:
        """The id of a teacher or a dataset that jobs can use."""
        id_: str = self.create(kind, **fields)["id"]
        answer = self.client.put(f"/v1/{kind}s/{id_}/content", content=id_.encode())
        assert answer.status_code == 202, answer.text
        self.accept(report)
        return id_

    def claim(self) -> Lease:
        """The next piece of work."""
        lease = leases.claim(self.db, "tests", LEASE_SECONDS)
        assert lease is not None, "nothing was queued"
        return lease

    def accept(self, report: DatasetReport | None = None, samples: bytes | None = None) -> None:
        """Find the upload that waits good; `samples` is what a dataset shows."""
        lease = self.claim()
        kind = lease.job.kind.removeprefix("verify_")
        found: TeacherReport | DatasetReport
        if kind == "teacher":
            model = ModelSpec.model_validate(lease.job.run["model"])
            found = TeacherReport(description=described(model), format="torch", dtype="float32")
        else:
            found = report or dataset_report()
        made = [self.file(lease, f"{kind}.safetensors", b"verified", kind)]
        if samples is not None:
            made.append(self.file(lease, "samples.png", samples, "samples"))
        leases.finish(self.db, lease, found, made)

    def reject(self, problem: Problem) -> None:
        """Find the upload that waits unusable."""
        leases.fail(self.db, self.claim(), [problem])

    def file(self, lease: Lease, name: str, content: bytes, kind: str = "student") -> NewArtifact:
        """A file in the blob store."""
        with self.blobs.writer(f"jobs/{lease.job.id}/{lease.epoch}/{name}") as writer:
            writer.write(content)
            blob = writer.commit()
        return NewArtifact(name, kind, "application/octet-stream", blob.size, blob.sha256, blob.key)

    def submit(self, **fields: Any) -> dict[str, Any]:
        """A queued job; without other fields that of a student alone."""
        body = {"student": STUDENT, "recipe": ALONE} | fields
        if "dataset" not in body:
            body["dataset"] = self.ready("dataset")
        answer = self.client.post("/v1/jobs", json=body)
        assert answer.status_code == 201, answer.text
        job: dict[str, Any] = answer.json()
        return job

    def succeed(self, lease: Lease, files: list[NewArtifact]) -> None:
        """End a job that made these files."""
        leases.finish(self.db, lease, distill_report(), files)

    def deliver(self, **options: Any) -> None:
        """Send all that webhooks are to be told by now."""
        asyncio.run(Deliverer(self.db, self.settings, **options).deliver_due())

    def drain(self) -> None:
        """Leave no job that runs, or that could be claimed now or later."""
        over = {"state": "cancelled", "lease_owner": None, "lease_expires_at": None, "ended_at": unix_now()}
        with self.db.write() as session:
            session.execute(update(Job).where(Job.state.not_in(ENDED)).values(over))

    def leave(self) -> None:
        """Leave nothing that another test would meet: no job that waits, and nobody who is told of any."""
        self.drain()
        with self.db.write() as session:
            session.execute(delete(Delivery))
            session.execute(delete(Webhook))


def described(model: ModelSpec) -> ModelDescription:
    """As a verification would; nobody looks at the figures."""
    return ModelDescription(spec=model, num_parameters=1, num_macs=1, size_bytes=4, taps=())


def dataset_report(num_classes: int = 10, image: dict[str, int] = IMAGE) -> DatasetReport:
    """What a verification found."""
    channels = image["channels"]
    return DatasetReport(
        format="npz",
        image=ImageShape(**image),
        classes=tuple(str(number) for number in range(num_classes)),
        splits={"train": SplitReport(num_images=100 * num_classes, class_counts=(100,) * num_classes)},
        normalization=Normalization(mean=(0.3,) * channels, std=(0.4,) * channels),
    )


def distill_report() -> DistillReport:
    """What a job reports that went well."""
    model = described(ModelSpec.model_validate(MODEL))
    return DistillReport(
        student=model,
        teacher=None,
        student_accuracy={},
        teacher_accuracy={},
        agreement={},
        boundary_similarity=(),
        training_seconds=1.0,
        versions={},
    )


@contextmanager
def serving(settings: Settings) -> Iterator[Service]:
    """The API behind uvicorn, in a thread of this process."""
    schema.upgrade(settings.database_url)
    app = create_app(settings)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        poll(lambda: server.started or not thread.is_alive())
        assert server.started
        service = Service(app, settings, server.servers[0].sockets[0].getsockname()[1])
        yield service
        service.close()
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def serve() -> Callable[[Settings], AbstractContextManager[Service]]:
    """Serves by other settings: `with serve(settings) as service`."""
    return serving


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service over SQLite for all tests."""
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("data"), max_upload_bytes=MOST_UPLOAD_BYTES, **PATIENT, **WEBHOOKS
    )
    with serving(settings) as service:
        yield service


@pytest.fixture
def service(running: Service) -> Iterator[Service]:
    """The service with an empty queue."""
    yield running
    running.leave()


@pytest.fixture
def client(service: Service) -> httpx.Client:
    """Asks with a key of the default project that may do everything."""
    return service.client


@pytest.fixture(scope="session")
def running_on_postgres(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Another, over PostgreSQL."""
    with new_database(postgres_url) as url:
        settings = Settings(
            data_dir=tmp_path_factory.mktemp("postgres"), database_url=url, **PATIENT, **WEBHOOKS
        )
        with serving(settings) as service:
            yield service


@pytest.fixture
def postgres_service(running_on_postgres: Service) -> Iterator[Service]:
    """The service over PostgreSQL with an empty queue."""
    yield running_on_postgres
    running_on_postgres.leave()


@pytest.fixture(params=["sqlite", "postgres"])
def either(request: pytest.FixtureRequest) -> Service:
    """The service over each kind of database."""
    name = "service" if request.param == "sqlite" else "postgres_service"
    service: Service = request.getfixturevalue(name)
    return service


@pytest.fixture(scope="session")
def wait_for() -> Callable[[Callable[[], Any]], Any]:
    """Waits until a condition is true."""
    return poll


@pytest.fixture(scope="session")
def reports() -> Callable[..., DatasetReport]:
    """Makes reports on datasets of other shapes."""
    return dataset_report


@pytest.fixture(scope="session")
def refusal() -> Callable[..., dict[str, Any]]:
    """Reads a problem document, holds its form against RFC 9457, and returns the one thing that was wrong."""

    def read(answer: httpx.Response, status: int, slug: str = "invalid") -> dict[str, Any]:
        assert answer.status_code == status, answer.text
        assert answer.headers["Content-Type"] == "application/problem+json"
        document = answer.json()
        assert document["type"] == f"/v1/problems/{slug}"
        assert document["status"] == status
        assert document["instance"] == answer.request.url.path
        assert document["request_id"] == answer.headers["X-Request-ID"]
        assert document["title"]
        assert document["detail"]
        (problem,) = document["errors"]
        assert problem["code"]
        assert problem["message"]
        return dict(problem)

    return read


class Hook:
    """A webhook that leads to a receiver, and its log."""

    def __init__(self, service: Any, url: str, events: list[str]) -> None:
        self._service = service
        made = service.client.post("/v1/webhooks", json={"url": url, "events": events}).json()
        self.secret: str = made["secret"]
        self.path = f"/v1/webhooks/{made['id']}"

    def post(self, below: str, **body: Any) -> Any:
        return self._service.client.post(self.path + below, **({"json": body} if body else {}))

    def get(self, below: str = "") -> dict[str, Any]:
        found: dict[str, Any] = self._service.client.get(self.path + below).json()
        return found

    def log(self) -> list[dict[str, Any]]:
        """Oldest first."""
        return list(self.get("/deliveries")["data"])[::-1]

    def test(self) -> str:
        return str(self.post("/test").json()["id"])

    def let_wait_pass(self) -> None:
        with self._service.db.write() as session:
            past = {"next_attempt_at": unix_now() - 1, "lease_expires_at": None}
            session.execute(update(Delivery).where(Delivery.state == "pending").values(past))


@pytest.fixture
def hook_to(either: Any) -> Iterator[Callable[..., Hook]]:
    """Makes webhooks that are gone after the test."""
    made: list[Hook] = []

    def make(receiver: Any, *events: str) -> Hook:
        made.append(Hook(either, receiver.url, list(events) or ["job.queued"]))
        return made[-1]

    yield make
    for hook in made:
        either.client.delete(hook.path)
