"""The whole service on one ground, each part a process of its own; and what its users ask of it."""

import io
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import numpy as np
from abdistill import ApiError, Client, ConnectionFailed
from plugins.s3 import environment
from safetensors.torch import save_file
from sqlalchemy import Select, Update, select, update
from sqlalchemy.exc import InterfaceError, OperationalError

from abcore.architectures import build_model
from abcore.specs.architectures import ImageShape, ModelSpec, WideResNet
from faults.grounds import Ground
from faults.processes import Kept, left_of, marked, send, wait_until
from server.address import answers, free_port, url_of
from server.broker import EmbeddedBroker
from store import schema
from store.blobs import BlobStore, open_blobs
from store.columns import unix_now
from store.database import Database
from store.endings import LONGEST_BACKOFF_SECONDS
from store.keys import create_key
from store.models import DEFAULT_PROJECT, ENDED, Job
from store.settings import Settings

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
NUM_WORKERS = 3
LEASE_SECONDS = 6.0
PATIENCE_SECONDS = 300.0
QUICK = {
    "ABDISTILL_LEASE_SECONDS": str(LEASE_SECONDS),
    "ABDISTILL_HEARTBEAT_SECONDS": "1",
    "ABDISTILL_POLL_SECONDS": "1",
    "ABDISTILL_SWEEP_SECONDS": "1",
    "ABDISTILL_GRACE_SECONDS": "2",
    "ABDISTILL_DEVICE": "cpu",
    # Faults are no fault of a job: none shall end as failed for them.
    "ABDISTILL_MAX_CRASHES": "1000",
    "OMP_NUM_THREADS": "1",
}
ARCHITECTURE = {"arch": "wide_resnet", "depth": 10, "width": 1}
TEACHER = ModelSpec(
    architecture=WideResNet(**ARCHITECTURE), image=ImageShape(channels=1, height=8, width=8), num_classes=2
)
PHASE = {"epochs": 16, "batch_size": 16}
RECIPES: tuple[dict[str, Any], ...] = (
    {"seed": 0, "transfer": PHASE, "finetune": PHASE},
    {"seed": 1, "transfer": None, "finetune": PHASE},
    {"seed": 2, "transfer": PHASE, "finetune": PHASE, "teacher_source": "cached"},
)
"""What jobs do, in some seconds: both phases, one phase, and with the teacher's answers kept in files."""


class Service:
    """API, broker and workers, started again when they die.

    `asked` are the keys of all distillations that users asked for, with their recipes, `cancelled` those of them that
    their users did not want any more, `uploads` the datasets that are to be verified.
    """

    def __init__(self, folder: Path, ground: Ground) -> None:
        self.folder, self.ground = folder, ground
        self.data_dir = folder / "data"
        self.orphans: list[str] = []
        self.asked: dict[str, int] = {}
        self.cancelled: set[str] = set()
        self.uploads: list[str] = []
        self._lock = threading.Lock()
        self.broker_files = EmbeddedBroker(self.data_dir)
        port = free_port("127.0.0.1", 0)
        self.url = url_of("127.0.0.1", port)
        settings = ground.settings | QUICK | {
            "ABDISTILL_DATA_DIR": str(self.data_dir),
            "ABDISTILL_BROKER_URL": self.broker_files.url,
            "ABDISTILL_PORT": str(port),
        }  # fmt: skip
        with environment(settings):
            self.settings = Settings()
        schema.upgrade(self.settings.database_url)
        self.db = Database(self.settings.database_url)
        self.blobs: BlobStore = open_blobs(self.settings.blobs_url)
        _, secret = create_key(self.db, DEFAULT_PROJECT, "faults")
        self.client = Client(self.url, secret, max_retries=20)
        self.impatient = Client(self.url, secret, max_retries=0)
        self.environment = dict(os.environ) | settings | {"PYTHONPATH": str(ROOT)}
        python = [sys.executable, "-P", "-m"]
        self.broker = Kept("broker", self.broker_files.command, self.environment, folder)
        self.api = Kept("api", [*python, "api"], self.environment, folder)
        self.workers = [
            Kept(f"worker-{n}", [*python, "worker"], self.environment, folder) for n in range(NUM_WORKERS)
        ]

    def start(self) -> None:
        """Start all, and upload what jobs need."""
        for kept in self._kept:
            kept.start()
        wait_until(lambda: answers(self.url), PATIENCE_SECONDS, "the API answers")
        self.dataset_id, self.teacher_id = self._upload_inputs()

    @property
    def _kept(self) -> tuple[Kept, ...]:
        return (self.broker, self.api, *self.workers)

    def submit(self, recipe: int, key: str | None = None) -> str:
        """Ask for a job, as often as it takes to hear that it is accepted; return its id."""
        key = key or uuid.uuid4().hex
        with self._lock:
            self.asked[key] = recipe
        return self.insist(
            lambda: self.client.jobs.create(
                dataset=self.dataset_id,
                teacher=self.teacher_id,
                student=ARCHITECTURE,
                recipe=RECIPES[recipe] | {"augmentation": {"crop_padding": 1, "views": 2}},
                labels={"recipe": str(recipe)},
                idempotency_key=key,
            )
        ).id

    def submit_and_cancel(self, recipe: int) -> None:
        """A user who thinks again: the job may be queued, be claimed just now, or run."""
        key = uuid.uuid4().hex
        id_ = self.submit(recipe, key)
        with self._lock:
            self.cancelled.add(key)
        with suppress(ApiError):  # a conflict: it has ended meanwhile
            self.insist(lambda: self.client.jobs.cancel(id_))

    def upload_another(
        self, random: Random, first: Callable[[str, Path], Any] = lambda _id, _path: None
    ) -> None:
        """Announce a dataset, do with its file what `first` does, then send it as it should be."""
        path = self.folder / f"{uuid.uuid4().hex}.npz"
        path.write_bytes(_images(random.randrange(2**31)))
        dataset = self.insist(lambda: self.client.datasets.create(path.name, path.name))
        first(dataset.id, path)
        self.insist(lambda: self.client.datasets.upload(dataset.id, path))
        with self._lock:
            self.uploads.append(dataset.id)
        path.unlink()

    def insist(self, ask: Callable[[], Any]) -> Any:
        """Ask until there is an answer: what users do, where the service is away for longer than a client waits."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            try:
                return ask()
            except ConnectionFailed:
                pass
            except ApiError as error:
                if error.status < 500:
                    raise
            time.sleep(0.5)
        raise TimeoutError("the service answers nobody")

    def ask(self, rows: Select[Any]) -> Sequence[Any]:
        """Read rows, also where the database is away for a while."""

        def read() -> Sequence[Any]:
            with self.db.read() as session:
                return session.execute(rows).all()

        return _patiently(read)

    def change(self, *statements: Update) -> None:
        """Change rows, also where the database is away for a while."""

        def write() -> None:
            with self.db.write() as session:
                for statement in statements:
                    session.execute(statement)

        _patiently(write)

    def unended(self) -> int:
        return len(self.ask(select(Job.id).where(Job.state.not_in(ENDED))))

    def hurry(self) -> None:
        """Do not wait for back-offs after crashes; a wait that is longer than any back-off would be a fault."""
        backing_off = Job.not_before <= unix_now() + LONGEST_BACKOFF_SECONDS
        self.change(update(Job).where(Job.state == "queued", backing_off).values(not_before=None))

    def drain(self) -> None:
        """Wait for the end of all jobs."""

        def idle() -> bool:
            self.hurry()
            return self.unended() == 0

        wait_until(idle, PATIENCE_SECONDS, "all jobs end")

    def watch_for_orphans(self, killed: str, processes: dict[int, str]) -> None:
        """What lived below a process that was killed must end."""
        self.orphans += [f"after {killed} was killed: {left}" for left in left_of(processes)]

    def stop(self) -> None:
        """Stop everything in good order; what does not stop, or is left, is an orphan."""
        for kept in reversed(self._kept):
            if not kept.stop():
                self.orphans.append(f"{kept.name} did not stop when it was asked to")
        self.orphans += left_of(marked(str(self.data_dir)))

    def end(self) -> None:
        """Leave nothing running, whatever happened."""
        for kept in self._kept:
            kept.end()
        send(marked(str(self.data_dir)), signal.SIGKILL)
        self.client.close()
        self.impatient.close()
        self.db.dispose()

    def _upload_inputs(self) -> tuple[str, str]:
        images, teacher = self.folder / "images.npz", self.folder / "teacher.safetensors"
        images.write_bytes(_images(0))
        save_file(build_model(TEACHER).state_dict(), teacher)
        dataset = self.client.datasets.add(images)
        model = TEACHER.model_dump(mode="json")
        return dataset.id, self.client.teachers.add(teacher, name="untrained", model=model).id


def _patiently(do: Callable[[], T]) -> T:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return do()
        except (OperationalError, InterfaceError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _images(seed: int) -> bytes:
    """96 images of 8x8, whose brighter half is their class; no two seeds give the same."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, 96)
    images = random.integers(0, 120, (96, 8, 8), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[label * 4 : label * 4 + 4] += 100
    content = io.BytesIO()
    np.savez(content, images=images, labels=labels)
    return content.getvalue()
