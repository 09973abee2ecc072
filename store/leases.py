"""A worker's side of a job: claim it, keep it, give it back, end it. Every write is fenced by the lease.

A worker must count a lease's age from *before* it called `claim` or `renew`, on its own monotonic clock, and kill its
child when that age comes near `lease_seconds`; then no two attempts of a job ever run at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session

from abcore.specs.refusals import Problem
from abcore.specs.reports import DatasetReport, DistillReport, EvaluationReport, TeacherReport
from store.columns import unix_now
from store.database import Database
from store.endings import Crash, cancelled, charge, failed, give_back
from store.ids import new_id
from store.models import Artifact, Dataset, Event, Job, Json, Teacher
from store.moves import UNLEASED, Fence, NewEvent, move, settle_upload
from store.quotas import claimable, may_run_one_more, require_room

OUT_OF_MEMORY = "child.out_of_memory"
"""Code of the problem of an attempt that ended for want of memory."""


class Directive(Enum):
    """What a worker shall do with a job that it runs."""

    CONTINUE = None
    CANCEL = "cancel"  # stop the child, then `acknowledge_cancel`
    PAUSE = "pause"  # let the child write a checkpoint, then `requeue`


@dataclass(frozen=True)
class Lease:
    """The right to run a job, as of its claim: `job` is the row as it was then."""

    job: Job
    epoch: int
    owner: str

    @property
    def fence(self) -> Fence:
        """What must be true of the row for this lease to be worth anything."""
        return Fence(self.job.id, "running", self.epoch, self.owner)


class NewArtifact(NamedTuple):
    """A file that is in the blob store already, and durable there."""

    name: str
    kind: str
    media_type: str
    size_bytes: int
    sha256: str
    blob_key: str


def claim(db: Database, worker_id: str, lease_seconds: float, devices: int = 1) -> Lease | None:
    """Take the best job that may run now, on so many devices: highest priority, then oldest. None: there is none.

    A project of which as many run as may is passed over: the others do not wait for it.
    """
    with db.write() as session:
        job = _best(session, devices)
        if job is None:
            return None
        attempt = job.attempts + 1
        event = NewEvent(
            "job.running",
            f"Attempt {attempt} started on worker {worker_id}.",
            data={"attempt": attempt, "worker": worker_id},
        )
        job = move(
            session,
            Fence.of(job),
            "running",
            [event],
            state_reason=None,
            lease_epoch=Job.lease_epoch + 1,
            lease_owner=worker_id,
            lease_expires_at=unix_now() + lease_seconds,
            attempts=attempt,
            not_before=None,
            started_at=func.coalesce(Job.started_at, unix_now()),
        )
        return Lease(job, job.lease_epoch, worker_id)


def _best(session: Session, devices: int) -> Job | None:
    best_first = (
        select(Job)
        .where(*claimable(), Job.devices <= devices)
        .order_by(Job.priority.desc(), Job.created_at, Job.id)
        .limit(1)
        .with_for_update(skip_locked=True, key_share=True)
    )
    while True:
        job = session.scalar(best_first)
        if job is None or may_run_one_more(session, job):
            return job
        # Another worker took its project's last place meanwhile: look again, past this project.


def renew(db: Database, lease: Lease, lease_seconds: float, attempt_seconds: float = 0.0) -> Directive:
    """Extend a lease, write down how long the attempt's child has run by now, and hear what its user wants.

    Raises:
        LeaseLost: the job was taken back; kill its child.
    """
    with db.write() as session:
        row = session.execute(
            update(Job)
            .where(lease.fence.holds())
            .values(
                lease_expires_at=unix_now() + lease_seconds,
                run_seconds=lease.job.run_seconds + attempt_seconds,
            )
            .returning(Job.stop_requested)
        ).one_or_none()
        if row is None:
            raise lease.fence.lost()
        return Directive(row.stop_requested)


def requeue(db: Database, lease: Lease, reason: str) -> Job:
    """Give a job back in good order (a worker that stops, a pause): it is not charged and may run again at once.

    Where its user asked meanwhile, it becomes cancelled or paused instead.

    Raises:
        LeaseLost
    """
    with db.write() as session:
        return give_back(session, _held(session, lease), reason)


def crash(db: Database, lease: Lease, problem: Problem, log_tail: str, max_crashes: int = 3) -> Job:
    """End an attempt that broke: the job waits longer each time, and ends as failed at `max_crashes`.

    Raises:
        LeaseLost
    """
    with db.write() as session:
        return charge(session, _held(session, lease), Crash(problem, log_tail), max_crashes)


def finish(
    db: Database,
    lease: Lease,
    report: DistillReport | TeacherReport | DatasetReport | EvaluationReport,
    artifacts: Sequence[NewArtifact],
) -> Job:
    """Commit the result: the report, the files, the state, and the teacher or dataset that it made, all or nothing.

    Raises:
        LeaseLost: another attempt owns the job; this result counts for nothing.
        ValueError: a job that makes a teacher or a dataset left none.
    """
    written = report.model_dump(mode="json")
    with db.write() as session:
        job = move(
            session,
            lease.fence,
            "succeeded",
            [NewEvent("job.succeeded", "The job succeeded.")],
            state_reason=None,
            report=written,
            problems=None,
            progress=1.0,
            eta_seconds=0.0,
            **UNLEASED,
        )
        add_artifacts(session, lease, artifacts)
        _settle_verified(session, job, written, artifacts)
        return job


def record_content(db: Database, lease: Lease, row: Teacher | Dataset, sha256: str, size_bytes: int) -> None:
    """Say what was read for a verification whose content is imported.

    Raises:
        LeaseLost
        StorageFull: its project has no room for what is made of it.
    """
    with db.write() as session:
        job = _held(session, lease)
        require_room(session, job.project_id, size_bytes)
        told = {"upload_sha256": sha256, "upload_bytes": size_bytes, "updated_at": unix_now()}
        session.execute(update(type(row)).where(type(row).id == row.id).values(told))


def memory_crashes(db: Database, lease: Lease) -> int:
    """Return how many attempts at the job ended for want of memory."""
    code = Event.data["problem"]["code"].as_string()
    crashed = (Event.job_id == lease.job.id, Event.type == "job.crashed", code == OUT_OF_MEMORY)
    with db.read() as session:
        return session.scalar(select(func.count()).select_from(Event).where(*crashed)) or 0


def fail(db: Database, lease: Lease, problems: Sequence[Problem]) -> Job:
    """End a job that cannot work, whoever runs it: its input was refused.

    Raises:
        LeaseLost
    """
    with db.write() as session:
        return failed(session, lease.fence, problems[0].message, problems)


def acknowledge_cancel(db: Database, lease: Lease) -> Job:
    """End a job whose child was stopped because its user asked for that.

    Raises:
        LeaseLost
    """
    with db.write() as session:
        return cancelled(session, lease.fence)


def add_artifacts(session: Session, lease: Lease, artifacts: Sequence[NewArtifact]) -> None:
    """Insert the rows of files that this lease published, in place of those of the same names before."""
    if artifacts:
        names = [artifact.name for artifact in artifacts]
        session.execute(delete(Artifact).where(Artifact.job_id == lease.job.id, Artifact.name.in_(names)))
        rows = [
            artifact._asdict() | {"id": new_id("art"), "job_id": lease.job.id, "lease_epoch": lease.epoch}
            for artifact in artifacts
        ]
        session.execute(insert(Artifact), rows)


def _held(session: Session, lease: Lease) -> Job:
    job = session.scalar(select(Job).where(lease.fence.holds()).with_for_update(key_share=True))
    if job is None:
        raise lease.fence.lost()
    return job


def _settle_verified(session: Session, job: Job, report: Json, artifacts: Sequence[NewArtifact]) -> None:
    if job.kind in ("distill", "evaluate_teacher"):
        return
    kind = "dataset" if job.kind == "verify_dataset" else "teacher"
    file = next((artifact for artifact in artifacts if artifact.kind == kind), None)
    if file is None:
        raise ValueError(f"job {job.id} shall make a {kind}, but none of its files is of kind {kind!r}")
    settle_upload(
        session,
        job,
        state="ready",
        state_detail=None,
        blob_key=file.blob_key,
        sha256=file.sha256,
        size_bytes=file.size_bytes,
        report=report,
    )
