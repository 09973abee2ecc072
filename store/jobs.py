"""A user's side of a job: submit it, look at it, stop it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from abcore.specs.runs import DistillRun
from store.database import Database
from store.errors import (
    Conflict,
    IdempotencyConflict,
    NotCancellable,
    NotFound,
    NotPausable,
    NotPaused,
    NotReady,
)
from store.models import Dataset, Job, JobState, Json, StopRequest, Teacher
from store.moves import NEXT, REACHED, Fence, JobEventType, NewEvent, change, create_job, move

Upload = TypeVar("Upload", Teacher, Dataset)
WAITING = "Waiting for a worker."
_REQUESTED: dict[StopRequest, JobEventType] = {
    "cancel": "job.cancel_requested",
    "pause": "job.pause_requested",
}


@dataclass(frozen=True)
class NewJob:
    """A distillation as accepted: `spec` is what its user sent, `run` what a child will be given.

    `work_macs` are the multiply-accumulates of its training. `idempotency_hash` is the hex sha256 of the request's
    body, given together with `idempotency_key`.
    """

    project_id: str
    spec: Json
    run: DistillRun
    dataset_id: str
    teacher_id: str | None = None
    name: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    plan: Json | None = None
    priority: int = 0
    work_macs: float | None = None
    max_runtime_seconds: int | None = None
    sweep_id: str | None = None
    idempotency_key: str | None = None
    idempotency_hash: str | None = None


@dataclass(frozen=True)
class Submitted:
    """A job that is in the queue. `replayed`: by an earlier request with the same idempotency key."""

    job: Job
    replayed: bool


def submit(db: Database, new: NewJob) -> Submitted:
    """Queue a job. When this returns it is committed; the caller rings the `Doorbell` then, not before.

    Raises:
        NotFound, NotReady: of the teacher or the dataset.
        IdempotencyConflict: the key was used with another body.
    """
    try:
        with db.write() as session:
            if earlier := _earlier(session, new.project_id, new.idempotency_key, new.idempotency_hash):
                return Submitted(earlier, replayed=True)
            return Submitted(insert_job(session, new), replayed=False)
    except IntegrityError:
        # On PostgreSQL a concurrent duplicate is seen only when the unique index refuses ours.
        with db.read() as session:
            earlier = _earlier(session, new.project_id, new.idempotency_key, new.idempotency_hash)
        if earlier is None:
            raise
        return Submitted(earlier, replayed=True)


def submitted_before(
    db: Database, project_id: str, idempotency_key: str, idempotency_hash: str
) -> Job | None:
    """Return the job of an earlier request with this key, before anything is checked that may have changed since.

    Raises:
        IdempotencyConflict: the key was used with another body.
    """
    with db.read() as session:
        return _earlier(session, project_id, idempotency_key, idempotency_hash)


def get(db: Database, project_id: str, job_id: str) -> Job:
    """Return a job of this project, of whatever kind.

    Raises:
        NotFound
    """
    with db.read() as session:
        return find_job(session, project_id, job_id)


def request_cancel(db: Database, project_id: str, job_id: str) -> Job:
    """Cancel a job that waits; ask the worker of a running one to cancel it, which takes it up to a heartbeat.

    A run that ends before it hears of this keeps its result.

    Raises:
        NotFound, NotCancellable
    """
    return _stop(db, project_id, job_id, "cancel", "cancelled", NotCancellable)


def request_pause(db: Database, project_id: str, job_id: str) -> Job:
    """Pause a job that waits; ask the worker of a running one to write a checkpoint and give it back.

    Raises:
        NotFound, NotPausable
    """
    return _stop(db, project_id, job_id, "pause", "paused", NotPausable)


def resume(db: Database, project_id: str, job_id: str) -> Job:
    """Queue a paused job again. The caller rings the `Doorbell` after this.

    Raises:
        NotFound, NotPaused
    """
    with db.write() as session:
        job = find_job(session, project_id, job_id, lock=True)
        if job.state != "paused":
            raise NotPaused(f"Job {job_id} is {job.state}: only a paused job can be resumed.")
        return move(
            session, Fence.of(job), "queued", [NewEvent("job.queued", "Resumed.")], state_reason=WAITING
        )


def find_job(session: Session, project_id: str, job_id: str, *, lock: bool = False) -> Job:
    """Return a job in the caller's transaction, locked against others if asked for.

    Raises:
        NotFound
    """
    query = select(Job).where(Job.id == job_id, Job.project_id == project_id)
    job = session.scalar(query.with_for_update(key_share=True) if lock else query)
    if job is None:
        raise NotFound("job", job_id)
    return job


def _stop(
    db: Database,
    project_id: str,
    job_id: str,
    request: StopRequest,
    to: JobState,
    refused: Callable[[str], Conflict],
) -> Job:
    with db.write() as session:
        job = find_job(session, project_id, job_id, lock=True)
        if to not in NEXT[job.state]:
            raise refused(f"Job {job_id} is {job.state}: it cannot become {to} any more.")
        if job.state != "running":
            reason = f"{to.capitalize()} by its user before it ran to its end."
            return move(
                session,
                Fence.of(job),
                to,
                [NewEvent(REACHED[to], reason)],
                state_reason=reason,
                not_before=None,
            )
        if job.stop_requested in (request, "cancel"):
            return job
        asked = NewEvent(_REQUESTED[request], f"Its user asked to {request} the job.")
        return change(session, Fence.of(job), [asked], stop_requested=request)


def _earlier(session: Session, project_id: str, key: str | None, body_hash: str | None) -> Job | None:
    if key is None:
        return None
    job = session.scalar(select(Job).where(Job.project_id == project_id, Job.idempotency_key == key))
    if job is not None and job.idempotency_hash != body_hash:
        raise IdempotencyConflict(
            f"Idempotency-Key {key!r} was used before, for job {job.id}, with another request body: "
            "use a new key for a new request."
        )
    return job


def require_ready(
    session: Session, target: type[Upload], kind: str, project_id: str, id_: str | None
) -> None:
    """Hold off the deletion of what a new job needs, in the caller's transaction.

    Raises:
        NotFound, NotReady
    """
    if id_ is None:
        return
    # The lock holds off a concurrent delete until this job is there to be seen.
    row = session.scalar(
        select(target)
        .where(target.id == id_, target.project_id == project_id, target.deleted_at.is_(None))
        .with_for_update(read=True)
    )
    if row is None:
        raise NotFound(kind, id_)
    if row.state != "ready":
        raise NotReady(
            f"The {kind} {id_} is {row.state}{f' ({row.state_detail})' if row.state_detail else ''}: a job can use it "
            "when its verification has made it ready."
        )


def insert_job(session: Session, new: NewJob) -> Job:
    """Queue a job in the caller's transaction.

    Raises:
        NotFound, NotReady: of the teacher or the dataset.
    """
    require_ready(session, Teacher, "teacher", new.project_id, new.teacher_id)
    require_ready(session, Dataset, "dataset", new.project_id, new.dataset_id)
    return create_job(
        session,
        WAITING,
        project_id=new.project_id,
        kind="distill",
        name=new.name,
        labels=new.labels,
        priority=new.priority,
        spec=new.spec,
        run=new.run.model_dump(mode="json"),
        plan=new.plan,
        teacher_id=new.teacher_id,
        dataset_id=new.dataset_id,
        method=new.run.recipe.method.name,
        work_macs=new.work_macs,
        max_runtime_seconds=new.max_runtime_seconds,
        sweep_id=new.sweep_id,
        idempotency_key=new.idempotency_key,
        idempotency_hash=new.idempotency_hash,
    )
