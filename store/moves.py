"""How a job moves from state to state: one conditional UPDATE, with its events, in the caller's transaction.

What webhooks are told of it (`store.outbox`) is written in that transaction too.

An UPDATE is conditional on all that its author believed: the job's state, the lease's epoch and its owner. Where it
changes no row, the author was wrong, and nothing else of the transaction happens either.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, and_, insert, update
from sqlalchemy.orm import Session

from store.columns import unix_now
from store.errors import LeaseLost
from store.ids import new_id
from store.models import Dataset, Event, Job, JobState, Json, Teacher
from store.outbox import job_moved, upload_settled
from store.quotas import UNCOUNTED, require_place

NEXT: dict[JobState, frozenset[JobState]] = {
    "queued": frozenset({"running", "paused", "cancelled"}),
    "running": frozenset({"queued", "paused", "succeeded", "failed", "cancelled"}),
    "paused": frozenset({"queued", "cancelled"}),
    "succeeded": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}
JobEventType = Literal[
    "job.queued",
    "job.running",
    "job.paused",
    "job.succeeded",
    "job.failed",
    "job.cancelled",
    "job.crashed",
    "job.cancel_requested",
    "job.pause_requested",
    "job.updated",
    "run.started",
    "run.resumed",
    "run.micro_batch",
    "run.interrupted",
    "run.failed",
    "run.finished",
    "phase.started",
    "phase.finished",
    "checkpoint.saved",
    "note",
]
"""Types of events, which callers go by: those of a job's life, then what its child tells (`abcore.events`)."""
REACHED: dict[JobState, JobEventType] = {
    "queued": "job.queued",
    "paused": "job.paused",
    "cancelled": "job.cancelled",
}
"""The event that tells of a state to which several ways lead."""
UNLEASED = {"lease_owner": None, "lease_expires_at": None, "stop_requested": None}


class Fence(NamedTuple):
    """What the author of an UPDATE believes about a job."""

    job_id: str
    state: JobState
    epoch: int
    owner: str | None

    @classmethod
    def of(cls, job: Job) -> "Fence":
        """Believe what was just read."""
        return cls(job.id, job.state, job.lease_epoch, job.lease_owner)

    def holds(self) -> ColumnElement[bool]:
        """The condition under which the belief is true."""
        return and_(
            Job.id == self.job_id,
            Job.state == self.state,
            Job.lease_epoch == self.epoch,
            Job.lease_owner.is_not_distinct_from(self.owner),
        )

    def lost(self) -> LeaseLost:
        """The error to raise where it is not."""
        return LeaseLost(
            f"Job {self.job_id} is no longer {self.state} under lease {self.epoch} of {self.owner!r}: stop its child "
            "and write nothing more about it."
        )


@dataclass(frozen=True)
class NewEvent:
    """An event to be appended. `time` None: now, by the database's clock."""

    type: JobEventType
    message: str
    level: Literal["info", "warning", "error"] = "info"
    data: Json = field(default_factory=dict)
    time: float | None = None


def create_job(session: Session, message: str, **columns: Any) -> Job:
    """Insert a queued job with its first event. What it asks of a slot is written beside its run, for claims to see.

    Raises:
        QueueFull, StorageFull: its project may not have it; a verification it always may.
    """
    if columns["kind"] not in UNCOUNTED:
        require_place(session, columns["project_id"])
    devices = columns["run"].get("devices", 1)
    job = Job(id=new_id("job"), event_seq=1, state_reason=message, devices=devices, **columns)
    session.add(job)
    session.flush()
    _append(session, job, [NewEvent("job.queued", message)])
    job_moved(session, job)
    return job


def change(session: Session, fence: Fence, events: Sequence[NewEvent], **columns: Any) -> Job:
    """Update a job that is as believed, append its events, return it as it is now.

    The row stays locked until the transaction ends, so that sequence numbers are handed out in the order of commits.

    Raises:
        LeaseLost: it is not as believed; the transaction must not go on.
    """
    statement = (
        update(Job)
        .where(fence.holds())
        .values(event_seq=Job.event_seq + len(events), updated_at=unix_now(), **columns)
        .returning(Job)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    job = session.scalars(statement).one_or_none()
    if job is None:
        raise fence.lost()
    _append(session, job, events)
    return job


def move(session: Session, fence: Fence, to: JobState, events: Sequence[NewEvent], **columns: Any) -> Job:
    """Change a job's state to one that may follow; an end is stamped, and told to the upload that it verified."""
    if to not in NEXT[fence.state]:
        raise ValueError(f"job {fence.job_id} cannot go from {fence.state!r} to {to!r}")
    if not NEXT[to]:
        columns["ended_at"] = unix_now()
    job = change(session, fence, events, state=to, **columns)
    job_moved(session, job)
    if to in ("failed", "cancelled"):
        what = "training" if job.kind == "train_teacher" else "verification"
        settle_upload(
            session,
            job,
            state="invalid",
            state_detail=job.state_reason,
            problems=job.problems or [{"code": f"{what}.{to}", "message": job.state_reason}],
        )
    return job


def settle_upload(session: Session, job: Job, **columns: Any) -> None:
    """Write the outcome of a job on the teacher or dataset that it verified or made; other jobs have none."""
    if job.kind in ("verify_teacher", "train_teacher", "combine_teachers"):
        target: type[Teacher] | type[Dataset] = Teacher
        id_ = job.teacher_id
    elif job.kind == "verify_dataset":
        target, id_ = Dataset, job.dataset_id
    else:
        return
    settled = session.scalars(
        update(target)
        .where(target.id == id_)
        .values(updated_at=unix_now(), **columns)
        .returning(target)
        .execution_options(synchronize_session=False, populate_existing=True)
    ).one_or_none()
    if isinstance(settled, Teacher | Dataset):
        upload_settled(session, settled)


def _append(session: Session, job: Job, events: Sequence[NewEvent]) -> None:
    first = job.event_seq - len(events) + 1
    rows = [
        {
            "job_id": job.id,
            "seq": seq,
            "time": job.updated_at if event.time is None else event.time,
            "level": event.level,
            "type": event.type,
            "message": event.message,
            "data": event.data,
        }
        for seq, event in enumerate(events, first)
    ]
    if rows:
        session.execute(insert(Event), rows)
