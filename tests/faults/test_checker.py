"""The checker sees each thing that it is there to see: rows and files are spoiled one by one."""

import hashlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from sqlalchemy import Update, delete, insert, update

from abcore.events import Metrics
from abcore.specs.architectures import Normalization, WideResNet
from abcore.specs.recipes import Finetune, Recipe
from abcore.specs.reports import DatasetReport
from abcore.specs.runs import DistillRun
from faults.checker import Reference, Verdict, check, reference_of
from store import datasets, jobs, leases, progress, schema
from store.blobs import BlobStore, open_blobs
from store.database import Database
from store.ids import new_id
from store.jobs import NewJob
from store.leases import NewArtifact
from store.models import DEFAULT_PROJECT, Artifact, Event, Job, Metric

KEY = "a key"


class Left(NamedTuple):
    """What one job that went well has left."""

    db: Database
    blobs: BlobStore
    job: Job
    dataset_id: str
    reference: Reference

    def check(self, cancelled: Collection[str] = ()) -> Verdict:
        return check(self.db, self.blobs, {KEY: 0}, cancelled, [self.dataset_id], {0: self.reference})

    def change(self, statement: Update) -> None:
        with self.db.write() as session:
            session.execute(statement)


@pytest.fixture
def left(tmp_path: Path) -> Iterator[Left]:
    url = f"sqlite:///{tmp_path / 'rows.db'}"
    schema.upgrade(url)
    db, blobs = Database(url), open_blobs((tmp_path / "blobs").as_uri())
    dataset_id = _verified(db, blobs)
    job = _done(db, blobs, dataset_id)
    yield Left(db, blobs, job, dataset_id, reference_of(db, job.id))
    db.dispose()


def _put(blobs: BlobStore, key: str, name: str, kind: str) -> NewArtifact:
    with blobs.writer(key) as out:
        out.write(name.encode())
        out.commit()
    sha256 = hashlib.sha256(name.encode()).hexdigest()
    return NewArtifact(name, kind, "application/octet-stream", len(name), sha256, key)


def _verified(db: Database, blobs: BlobStore) -> str:
    row = datasets.create(db, DEFAULT_PROJECT, name="d", filename="d.npz")
    datasets.attach_upload(db, DEFAULT_PROJECT, row.id, f"uploads/{row.id}/1", "1" * 64, 3)
    lease = leases.claim(db, "w", 60.0)
    assert lease is not None
    report = DatasetReport.model_construct(format="npz", classes=("a", "b"), splits={})
    file = _put(blobs, f"datasets/{row.id}/dataset.safetensors", "dataset.safetensors", "dataset")
    leases.finish(db, lease, report, [file])
    return row.id


def _done(db: Database, blobs: BlobStore, dataset_id: str) -> Job:
    run = DistillRun(
        student=WideResNet(arch="wide_resnet", depth=10, width=1),
        teacher=None,
        normalization=Normalization(mean=(0.5,), std=(0.25,)),
        recipe=Recipe(transfer=None, finetune=Finetune(cross_entropy_weight=1.0, kd_weight=0.0)),
    )
    new = NewJob(
        DEFAULT_PROJECT,
        spec={},
        run=run,
        dataset_id=dataset_id,
        idempotency_key=KEY,
        idempotency_hash="0" * 64,
    )
    jobs.submit(db, new)
    lease = leases.claim(db, "w", 60.0)
    assert lease is not None
    told = [Metrics(phase="finetune", epoch=0, step=step, values={"loss": 1 / step}) for step in (1, 2)]
    progress.record(db, lease, told)
    key = f"jobs/{lease.job.id}/1/student.safetensors"
    return leases.finish(
        db, lease, DatasetReport.model_construct(), [_put(blobs, key, "student.safetensors", "student")]
    )


def test_a_job_that_went_well_has_nothing_wrong(left: Left) -> None:
    assert not _wrong(left.check())


def _spoil_state(left: Left) -> None:
    left.change(update(Job).where(Job.id == left.job.id).values(state="failed"))


def _lose_the_job(left: Left) -> None:
    left.change(update(Job).where(Job.id == left.job.id).values(idempotency_key="another"))


def _end_twice(left: Left) -> None:
    seq = left.job.event_seq + 1
    left.change(update(Job).where(Job.id == left.job.id).values(event_seq=seq))
    end = {"level": "info", "type": "job.succeeded", "message": "", "data": {}, "time": 0.0}
    left.change(insert(Event).values(job_id=left.job.id, seq=seq, **end))  # type: ignore[arg-type]


def _forget_an_event(left: Left) -> None:
    left.change(delete(Event).where(Event.job_id == left.job.id, Event.seq == 2))  # type: ignore[arg-type]


def _forget_a_figure(left: Left) -> None:
    left.change(delete(Metric).where(Metric.job_id == left.job.id, Metric.step == 2))  # type: ignore[arg-type]


def _change_a_figure(left: Left) -> None:
    left.change(update(Metric).where(Metric.job_id == left.job.id, Metric.step == 2).values(value=9.0))


def _spoil_the_student(left: Left) -> None:
    _put(left.blobs, f"jobs/{left.job.id}/1/student.safetensors", "other bytes", "student")


def _take_another_student(left: Left) -> None:
    key = f"jobs/{left.job.id}/1/student.safetensors"
    other = _put(left.blobs, key, "other bytes", "student")
    left.change(update(Artifact).where(Artifact.blob_key == key).values(sha256=other.sha256))


def _double_the_student(left: Left) -> None:
    new = _put(left.blobs, f"jobs/{left.job.id}/1/again.safetensors", "again.safetensors", "student")
    columns = new._asdict() | {"id": new_id("art"), "job_id": left.job.id, "lease_epoch": 1}
    left.change(insert(Artifact).values(**columns))  # type: ignore[arg-type]


def _lose_a_file(left: Left) -> None:
    left.blobs.delete(f"datasets/{left.dataset_id}/dataset.safetensors")


def _leave_a_file(left: Left) -> None:
    _put(left.blobs, "jobs/nobody/1/student.safetensors", "left", "student")


@pytest.mark.parametrize(
    ("spoil", "seen"),
    [
        (_spoil_state, {"lost", "illegal"}),
        (_lose_the_job, {"lost", "doubled"}),
        (_end_twice, {"doubled", "illegal"}),
        (_forget_an_event, {"illegal"}),
        (_forget_a_figure, {"gaps"}),
        (_change_a_figure, {"gaps"}),
        (_spoil_the_student, {"wrong_bytes"}),
        (_take_another_student, {"wrong_bytes"}),
        (_double_the_student, {"doubled", "wrong_bytes"}),
        (_lose_a_file, {"lost"}),
        (_leave_a_file, {"orphan_blobs"}),
    ],
)
def test_what_is_spoiled_is_seen(left: Left, spoil: Callable[[Left], None], seen: set[str]) -> None:
    spoil(left)
    assert set(_wrong(left.check())) == seen


def test_a_cancelled_job_was_cancelled_by_its_user_and_has_no_student(left: Left) -> None:
    end = (Event.job_id == left.job.id, Event.seq == left.job.event_seq)
    left.change(update(Event).where(*end).values(type="job.cancelled"))  # type: ignore[arg-type]
    left.change(update(Job).where(Job.id == left.job.id).values(state="cancelled"))
    assert set(_wrong(left.check())) == {"lost"}
    assert set(_wrong(left.check(cancelled={KEY}))) == {"doubled"}
    left.change(delete(Artifact).where(Artifact.job_id == left.job.id))  # type: ignore[arg-type]
    assert set(_wrong(left.check(cancelled={KEY}))) == {"orphan_blobs"}


def _wrong(verdict: Verdict) -> list[str]:
    return [name for name, number in verdict.counts().items() if number]
