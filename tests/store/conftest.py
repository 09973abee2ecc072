"""A migrated database of each kind for every test, and a hand that fills it."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import pytest
from plugins.postgres import new_database
from sqlalchemy import delete, update

from abcore.specs.architectures import ImageShape, ModelSpec, Normalization, WideResNet
from abcore.specs.recipes import Finetune, Recipe
from abcore.specs.refusals import Problem
from abcore.specs.reports import DatasetReport, ModelDescription, SplitReport, TeacherReport
from abcore.specs.runs import DistillRun
from store import datasets, progress, schema, teachers
from store.columns import Base
from store.database import Database
from store.jobs import NewJob, get, submit
from store.leases import Lease, NewArtifact, claim, finish
from store.models import DEFAULT_PROJECT, Dataset, Job, Project, Sweep, Teacher


@pytest.fixture(params=["sqlite", "postgres"], scope="session")
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a migrated database, a SQLite file or one on a real PostgreSQL."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('migrated') / 'store.db'}"
        schema.upgrade(url)
        yield url
    else:
        with new_database(request.getfixturevalue("postgres_url")) as url:
            schema.upgrade(url)
            yield url


@pytest.fixture(scope="session")
def opened(url: str) -> Iterator[Database]:
    """The database, opened once: connecting and compiling statements anew would take longer than most tests."""
    database = Database(url)
    yield database
    database.dispose()


@pytest.fixture
def db(opened: Database) -> Iterator[Database]:
    """The database as the migrations left it."""
    yield opened
    with opened.write() as session:
        for table in reversed(Base.metadata.sorted_tables):
            if table.name not in ("projects", "sweeps"):
                session.execute(table.delete())
        session.execute(update(Sweep).values(swept_at=0.0))
        session.execute(delete(Project).where(Project.id != DEFAULT_PROJECT))


class Hand:
    """Fills a database by the way that the service goes."""

    project = DEFAULT_PROJECT
    run = DistillRun(
        student=WideResNet(arch="wide_resnet", depth=10, width=1),
        teacher=None,
        normalization=Normalization(mean=(0.5,), std=(0.25,)),
        recipe=Recipe(transfer=None, finetune=Finetune(cross_entropy_weight=1.0, kd_weight=0.0)),
    )
    model = ModelSpec(
        architecture=WideResNet(arch="wide_resnet", depth=16, width=2),
        image=ImageShape(channels=1, height=8, width=8),
        num_classes=10,
    )

    def __init__(self, db: Database) -> None:
        self.db = db

    @cached_property
    def ready_dataset(self) -> str:
        """The id of a dataset that jobs can use."""
        return self.verified(datasets.create(self.db, self.project, name="digits", filename="digits.npz")).id

    def verified(self, row: Teacher | Dataset) -> Teacher | Dataset:
        """Upload and verify something that was just created, while nothing else waits in the queue."""
        of = teachers if isinstance(row, Teacher) else datasets
        of.attach_upload(self.db, self.project, row.id, f"uploads/{row.id}/1", "1" * 64, 3)
        finish(
            self.db, self.claim(), self.report(row), [self.file("teacher" if of is teachers else "dataset")]
        )
        return of.get(self.db, self.project, row.id)

    def report(self, row: Teacher | Dataset) -> TeacherReport | DatasetReport:
        """What a verification that found nothing wrong reports."""
        if isinstance(row, Dataset):
            return DatasetReport(
                format="npz",
                image=self.model.image,
                classes=("0", "1"),
                splits={"train": SplitReport(num_images=2, class_counts=(1, 1))},
                normalization=self.run.normalization,
            )
        description = ModelDescription(spec=self.model, num_parameters=1, num_macs=1, size_bytes=4, taps=())
        return TeacherReport(description=description, format="torch", dtype="float32")

    def new_job(self, **changes: Any) -> NewJob:
        """A job that can be submitted."""
        columns = {"project_id": self.project, "spec": {}, "run": self.run, "dataset_id": self.ready_dataset}
        return NewJob(**columns | changes)

    def submit(self, **changes: Any) -> Job:
        """A job in the queue."""
        return submit(self.db, self.new_job(**changes)).job

    def claim(self, worker: str = "worker", seconds: float = 60.0) -> Lease:
        """A lease on whatever is next; with negative seconds one that has expired already."""
        lease = claim(self.db, worker, seconds)
        assert lease is not None, "nothing could be claimed"
        return lease

    def get(self, job: Job) -> Job:
        """The job as it is now."""
        return get(self.db, self.project, job.id)

    def let_wait_pass(self) -> None:
        """Make all jobs that wait for a back-off claimable."""
        with self.db.write() as session:
            session.execute(update(Job).values(not_before=None))

    def events(self, job: Job) -> list[str]:
        """The types of a job's events, in order; they are numbered without a gap."""
        found = progress.events(self.db, self.project, job.id, limit=10_000)
        assert [event.seq for event in found] == list(range(1, len(found) + 1))
        return [event.type for event in found]

    @staticmethod
    def file(kind: str, name: str | None = None) -> NewArtifact:
        """A file that a job left."""
        name = name or f"{kind}.safetensors"
        return NewArtifact(name, kind, "application/octet-stream", 5, "2" * 64, f"jobs/x/{name}")


@pytest.fixture
def hand(db: Database) -> Hand:
    """A hand on the database `db`."""
    return Hand(db)


@pytest.fixture
def problem() -> Problem:
    """Something that went wrong."""
    return Problem(code="child.killed", message="The child was killed by signal 9.")
