"""A worker's side of a job: claim it, keep it, give it back, end it. Every write is fenced by the lease.

A worker must count a lease's age from *before* it called `claim` or `renew`, on its own monotonic clock, and kill its
child when that age comes near `lease_seconds`; then no two attempts of a job ever run at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from sqlalchemy import func, insert, or_, select, update
from sqlalchemy.orm import Session

from abcore.specs.refusals import Problem
from abcore.specs.reports import DatasetReport, DistillReport, TeacherReport
from store.columns import unix_now
from store.database import Database
from store.errors import LeaseLost
from store.ids import new_id
from store.models import Artifact, Job, JobState
from store.moves import UNLEASED, Fence, NewEvent, move, settle_upload

LOG_TAIL_CHARACTERS = 8000
FIRST_BACKOFF_SECONDS = 5.0
LONGEST_BACKOFF_SECONDS = 300.0


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


@dataclass(frozen=True)
class Crash:
    """Why an attempt ended without a result: the problem, and the last of what its child wrote."""

    problem: Problem
    log_tail: str = ""


def claim(db: Database, worker_id: str, lease_seconds: float) -> Lease | None:
    """Take the best job that may run now: highest priority, then oldest. None where there is none."""
    with db.write() as session:
        job = session.scalar(
            select(Job)
            .where(Job.state == "queued", or_(Job.not_before.is_(None), Job.not_before <= unix_now()))
            .order_by(Job.priority.desc(), Job.created_at, Job.id)
            .limit(1)
            .with_for_update(skip_locked=True, key_share=True)
        )
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


def renew(db: Database, lease: Lease, lease_seconds: float) -> Directive:
    """Extend a lease, and hear what its user wants.

    Raises:
        LeaseLost: the job was taken back; kill its child.
    """
    with db.write() as session:
        row = session.execute(
            update(Job)
            .where(
                Job.id == lease.job.id,
                Job.state == "running",
                Job.lease_epoch == lease.epoch,
                Job.lease_owner == lease.owner,
            )
            .values(lease_expires_at=unix_now() + lease_seconds)
            .returning(Job.stop_requested)
        ).one_or_none()
        if row is None:
            raise _lost(lease)
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
    report: DistillReport | TeacherReport | DatasetReport,
    artifacts: Sequence[NewArtifact],
) -> Job:
    """Commit the result: the report, the files, the state, and for a verification the upload, all or nothing.

    Raises:
        LeaseLost: another attempt owns the job; this result counts for nothing.
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
        if job.kind != "distill":
            file = next(
                artifact for artifact in artifacts if artifact.kind == job.kind.removeprefix("verify_")
            )
            settle_upload(
                session,
                job,
                state="ready",
                state_detail=None,
                blob_key=file.blob_key,
                sha256=file.sha256,
                size_bytes=file.size_bytes,
                report=written,
            )
        return job


def fail(db: Database, lease: Lease, problems: Sequence[Problem]) -> Job:
    """End a job that cannot work, whoever runs it: its input was refused.

    Raises:
        LeaseLost
    """
    with db.write() as session:
        return _failed(session, lease.fence, problems[0].message, problems, [])


def acknowledge_cancel(db: Database, lease: Lease) -> Job:
    """End a job whose child was stopped because its user asked for that.

    Raises:
        LeaseLost
    """
    with db.write() as session:
        return _cancelled(session, lease.fence, [])


def charge(session: Session, job: Job, crash: Crash, max_crashes: int) -> Job:
    """Count a crash against a locked running job, and queue or fail it accordingly."""
    crashes = job.crashes + 1
    tail = crash.log_tail[-LOG_TAIL_CHARACTERS:]
    event = NewEvent(
        "job.crashed",
        f"Attempt {job.attempts} crashed: {crash.problem.message}",
        level="error",
        data={"problem": crash.problem.model_dump(mode="json"), "log_tail": tail, "crashes": crashes},
    )
    if crashes >= max_crashes and job.stop_requested != "cancel":
        problem = Problem(
            code="job.crashed",
            message=f"The job crashed {crashes} times; the last time: {crash.problem.message}",
            value=tail or None,
            hint=crash.problem.hint or "`value` holds the last lines of its log.",
        )
        return _failed(session, Fence.of(job), problem.message, [problem], [event], crashes=crashes)
    wait_seconds = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 4 ** (crashes - 1))
    reason = f"Crashed {crashes} of at most {max_crashes} times; tried again after {wait_seconds:g} s."
    return give_back(session, job, reason, [event], crashes=crashes, not_before=unix_now() + wait_seconds)


def give_back(
    session: Session, job: Job, reason: str, events: Sequence[NewEvent] = (), **columns: Any
) -> Job:
    """Take a locked running job from its worker: to the queue, or to where its user wanted it."""
    fence = Fence.of(job)
    if job.stop_requested == "cancel":
        return _cancelled(session, fence, events)
    to: JobState = "queued"
    if job.stop_requested == "pause":
        to, reason = "paused", "Paused by its user."
    return move(
        session,
        fence,
        to,
        [*events, NewEvent(f"job.{to}", reason)],
        state_reason=reason,
        **UNLEASED,
        **columns,
    )


def add_artifacts(session: Session, lease: Lease, artifacts: Sequence[NewArtifact]) -> None:
    """Insert the rows of files that this lease published."""
    if artifacts:
        rows = [
            artifact._asdict() | {"id": new_id("art"), "job_id": lease.job.id, "lease_epoch": lease.epoch}
            for artifact in artifacts
        ]
        session.execute(insert(Artifact), rows)


def _held(session: Session, lease: Lease) -> Job:
    job = session.scalar(
        select(Job)
        .where(
            Job.id == lease.job.id,
            Job.state == "running",
            Job.lease_epoch == lease.epoch,
            Job.lease_owner == lease.owner,
        )
        .with_for_update(key_share=True)
    )
    if job is None:
        raise _lost(lease)
    return job


def _lost(lease: Lease) -> LeaseLost:
    return LeaseLost(
        f"Lease {lease.epoch} of {lease.owner!r} on job {lease.job.id} was lost: stop its child and write nothing more."
    )


def _cancelled(session: Session, fence: Fence, events: Sequence[NewEvent]) -> Job:
    reason = "Cancelled by its user while it ran."
    cancelled = NewEvent("job.cancelled", reason)
    return move(session, fence, "cancelled", [*events, cancelled], state_reason=reason, **UNLEASED)


def _failed(
    session: Session,
    fence: Fence,
    reason: str,
    problems: Sequence[Problem],
    events: Sequence[NewEvent],
    **columns: Any,
) -> Job:
    written = [problem.model_dump(mode="json") for problem in problems]
    failed = NewEvent("job.failed", reason, level="error", data={"problems": written})
    return move(
        session,
        fence,
        "failed",
        [*events, failed],
        state_reason=reason,
        problems=written,
        **UNLEASED,
        **columns,
    )
