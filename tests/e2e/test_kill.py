"""kill -9 of child, leash and worker in turn, during one real job: it succeeds, once, and nobody is left."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import update

from abcore.specs.architectures import Normalization, WideResNet
from abcore.specs.recipes import Augmentation, Finetune, Optimizer, Recipe
from abcore.specs.runs import DistillRun
from store import artifacts, datasets, jobs, progress, schema
from store.blobs import open_blobs
from store.database import Database
from store.jobs import NewJob
from store.models import DEFAULT_PROJECT, Artifact, Event, Job
from store.settings import Settings

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds processes in /proc")

PATIENCE_SECONDS = 90.0
ORPHAN_SECONDS = 5.0


class Service:
    """Worker processes on one machine, and what a user sees of them. No broker: its loss is another test's matter."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = Settings(
            data_dir=folder,
            lease_seconds=6.0,
            heartbeat_seconds=0.5,
            poll_seconds=0.2,
            sweep_seconds=0.5,
            device="cpu",
        )
        schema.upgrade(self.settings.database_url)
        self.db = Database(self.settings.database_url)
        self.workers: list[subprocess.Popen[bytes]] = []

    def start_worker(self) -> subprocess.Popen[bytes]:
        """Start one as it is started in earnest."""
        environment = {
            f"ABDISTILL_{name.upper()}": str(value)
            for name, value in self.settings.model_dump(mode="json").items()
            if value is not None
        }
        # From a checkout that is not installed, too.
        environment["PYTHONPATH"] = str(Path(__file__).parents[2])
        environment["OMP_NUM_THREADS"] = "1"
        self.workers.append(subprocess.Popen([sys.executable, "-m", "worker"], env=os.environ | environment))
        return self.workers[-1]

    def upload_dataset(self) -> str:
        """A tiny one, verified by the service: images whose brightest quarter is their class."""
        random = np.random.default_rng(0)
        labels = random.integers(0, 4, 640)
        images = random.integers(0, 120, (640, 8, 8), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            row, column = divmod(int(label), 2)
            image[row * 4 : row * 4 + 4, column * 4 : column * 4 + 4] += 100
        path = self.folder / "tiny.npz"
        np.savez(path, images=images, labels=labels)
        dataset = datasets.create(self.db, DEFAULT_PROJECT, name="tiny", filename="tiny.npz")
        blob = open_blobs(self.settings.blobs_url).put_file(f"uploads/{dataset.id}/1", path)
        datasets.attach_upload(self.db, DEFAULT_PROJECT, dataset.id, blob.key, blob.sha256, blob.size)
        self.wait(lambda: self.dataset_state(dataset.id) == "ready", lambda: self.dataset_state(dataset.id))
        return dataset.id

    def dataset_state(self, dataset_id: str) -> str:
        return datasets.get(self.db, DEFAULT_PROJECT, dataset_id).state

    def submit(self, dataset_id: str) -> Job:
        run = DistillRun(
            student=WideResNet(arch="wide_resnet", depth=10, width=1),
            teacher=None,
            normalization=Normalization(mean=(0.3,), std=(0.25,)),
            recipe=Recipe(
                transfer=None,
                finetune=Finetune(
                    epochs=18,
                    batch_size=16,
                    cross_entropy_weight=1.0,
                    kd_weight=0.0,
                    optimizer=Optimizer(learning_rate=0.05),
                ),
                augmentation=Augmentation(crop_padding=1),
                evaluate_every=6,
            ),
            checkpoint_seconds=0.5,
        )
        return jobs.submit(self.db, NewJob(DEFAULT_PROJECT, spec={}, run=run, dataset_id=dataset_id)).job

    def get(self, job: Job) -> Job:
        return jobs.get(self.db, DEFAULT_PROJECT, job.id)

    def events(self, job: Job, kind: str) -> list[Event]:
        every = progress.events(self.db, DEFAULT_PROJECT, job.id, limit=10_000)
        return [event for event in every if event.type == kind]

    def files(self, job: Job, kind: str) -> list[Artifact]:
        return [row for row in artifacts.list_(self.db, DEFAULT_PROJECT, job.id) if row.kind == kind]

    def wait_for_headway(self, job: Job, attempt: int) -> None:
        """Until this attempt has got further than the one before, and that is safe."""

        def made() -> bool:
            begun_at = max((event.data["step"] for event in self.events(job, "run.resumed")), default=0)
            return any(
                file.lease_epoch == attempt and int(re.findall(r"\d+", file.name)[-1]) > begun_at
                for file in self.files(job, "checkpoint")
            )

        self.wait(made, lambda: self.told(job))

    def wait_for_success(self, job: Job) -> Job:
        self.wait(lambda: self.get(job).state == "succeeded", lambda: self.told(job))
        return self.get(job)

    def let_wait_pass(self, job: Job) -> None:
        """Once the job is back in the queue, do not wait for its back-off."""
        self.wait(lambda: self.get(job).state == "queued", lambda: self.told(job))
        with self.db.write() as session:
            session.execute(update(Job).where(Job.id == job.id).values(not_before=None))

    def told(self, job: Job) -> object:
        now = self.get(job)
        return now.state, now.state_reason, now.attempts, now.progress

    def wait(self, condition: Callable[[], bool], what: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, what()
            time.sleep(0.05)

    def living(self, part: str = "") -> list[int]:
        """Processes with this service's folder in their environment or arguments, and `part` in the latter."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                arguments = (entry / "cmdline").read_bytes()
                told = (entry / "environ").read_bytes() + arguments
            except OSError:
                continue
            if (
                int(entry.name) != os.getpid()
                and os.fsencode(self.folder) in told
                and part.encode() in arguments
            ):
                found.append(int(entry.name))
        return found

    def leash(self, worker: subprocess.Popen[bytes]) -> int:
        """The process that holds the training process: the worker's child, or that of the process that forks for it."""
        parents = {pid: _parent(pid) for pid in self.living()}
        own = [pid for pid, parent in parents.items() if parent == worker.pid]
        servers = [pid for pid in self.living("leash.forker") if parents.get(parents[pid]) in own]
        holders = [pid for pid in own if not any(parents[parents[server]] == pid for server in servers)]
        (leash,) = holders + [pid for pid, parent in parents.items() if parent in servers]
        return leash

    def child(self, worker: subprocess.Popen[bytes]) -> int:
        """The training process itself."""
        parents = {pid: _parent(pid) for pid in self.living()}
        (child,) = (pid for pid in parents if parents.get(parents[pid]) == self.leash(worker))
        return child

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.wait()
        self.db.dispose()


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path)
    yield service
    service.close()
    deadline = time.monotonic() + ORPHAN_SECONDS
    while living := service.living():
        assert time.monotonic() < deadline, living
        time.sleep(0.05)


def test_a_job_survives_the_death_of_every_process_that_works_on_it(service: Service) -> None:
    worker = service.start_worker()
    dataset_id = service.upload_dataset()
    job = service.submit(dataset_id)

    service.wait_for_headway(job, 1)
    os.kill(service.child(worker), signal.SIGKILL)
    service.let_wait_pass(job)

    service.wait_for_headway(job, 2)
    os.kill(service.leash(worker), signal.SIGKILL)
    service.let_wait_pass(job)

    service.wait_for_headway(job, 3)
    worker.kill()
    worker.wait()
    deadline = time.monotonic() + ORPHAN_SECONDS
    while service.living():
        assert time.monotonic() < deadline, "the worker's death left somebody behind"
        time.sleep(0.05)
    worker = service.start_worker()
    service.let_wait_pass(job)

    done = service.wait_for_success(job)
    assert (done.attempts, done.crashes, done.progress) == (4, 1, 1.0)
    resumed = [event.data["step"] for event in service.events(job, "run.resumed")]
    assert len(resumed) == 3, "each attempt after the first went on from a checkpoint"
    assert 0 < resumed[0] < resumed[1] < resumed[2], "and got further"
    assert len(service.events(job, "job.succeeded")) == 1
    (student,) = service.files(job, "student")
    assert student.lease_epoch == 4
    content = b"".join(open_blobs(service.settings.blobs_url).open_range(student.blob_key))
    assert hashlib.sha256(content).hexdigest() == student.sha256

    undisturbed = service.submit(dataset_id)
    service.wait_for_success(undisturbed)
    assert service.get(undisturbed).attempts == 1
    (twin,) = service.files(undisturbed, "student")
    assert twin.sha256 == student.sha256, "three deaths did not change a bit of the student"

    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=30) == 0
    assert service.living() == []
    kept = {path.name for path in service.settings.workspace_dir.iterdir()}
    assert kept == {"cache", "teacher-cache"}, "what is for later jobs, and nothing of these"
