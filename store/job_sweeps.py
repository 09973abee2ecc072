"""Sweeps: jobs that are queued together, looked at together, ended together."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from sqlalchemy import delete, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from store.cursors import Page, paginate
from store.database import Database
from store.errors import IdempotencyConflict, NotCancellable, NotDeletable, NotFound
from store.ids import new_id
from store.job_changes import forget_job
from store.job_models import JobSweep
from store.jobs import NewJob, insert_job, request_cancel
from store.models import ENDED, Job, JobState, Json


@dataclass(frozen=True)
class NewSweep:
    """A sweep as accepted. `spec` is what its user sent.

    `idempotency_hash` is the hex sha256 of the request's body, given together with `idempotency_key`.
    """

    project_id: str
    spec: Json
    name: str | None = None
    idempotency_key: str | None = None
    idempotency_hash: str | None = None


class Listed(NamedTuple):
    """A sweep, and how many of its jobs are in which state."""

    sweep: JobSweep
    states: dict[JobState, int]


def create(db: Database, new: NewSweep, jobs: Sequence[NewJob]) -> tuple[JobSweep, bool]:
    """Queue a sweep's jobs, all or none; the caller rings the `Doorbell` then.

    Returns:
        The sweep, and whether it is that of an earlier request with the same idempotency key.

    Raises:
        NotFound, NotReady: of a teacher or a dataset.
        IdempotencyConflict: the key was used with another body.
    """
    try:
        with db.write() as session:
            if earlier := _earlier(session, new.project_id, new.idempotency_key, new.idempotency_hash):
                return earlier, True
            sweep = JobSweep(id=new_id("swp"), **vars(new))
            session.add(sweep)
            session.flush()
            for job in jobs:
                insert_job(session, replace(job, sweep_id=sweep.id))
            return sweep, False
    except IntegrityError:
        # On PostgreSQL a concurrent duplicate is seen only when the unique index refuses ours.
        assert new.idempotency_key is not None
        assert new.idempotency_hash is not None
        earlier = created_before(db, new.project_id, new.idempotency_key, new.idempotency_hash)
        if earlier is None:
            raise
        return earlier, True


def created_before(db: Database, project_id: str, key: str, body_hash: str) -> JobSweep | None:
    """Return the sweep of an earlier request with this key.

    Raises:
        IdempotencyConflict: the key was used with another body.
    """
    with db.read() as session:
        return _earlier(session, project_id, key, body_hash)


def get(db: Database, project_id: str, sweep_id: str) -> Listed:
    """Return a sweep.

    Raises:
        NotFound
    """
    with db.read() as session:
        sweep = _find(session, project_id, sweep_id)
        return Listed(sweep, _states(session, [sweep.id])[sweep.id])


def list_(db: Database, project_id: str, *, limit: int = 20, cursor: str | None = None) -> Page[Listed]:
    """Return a page of sweeps, newest first.

    Raises:
        BadCursor
    """
    rows = select(JobSweep).where(JobSweep.project_id == project_id)
    order = (JobSweep.created_at, JobSweep.id)
    with db.read() as session:
        page = paginate(session, rows, order, (float, str), limit=limit, cursor=cursor, descending=True)
        states = _states(session, [sweep.id for sweep in page.items])
        return Page([Listed(sweep, states[sweep.id]) for sweep in page.items], page.next_cursor)


def jobs_of(db: Database, project_id: str, sweep_id: str) -> list[Job]:
    """Return a sweep's jobs, in the order in which they were queued.

    Raises:
        NotFound
    """
    with db.read() as session:
        _find(session, project_id, sweep_id)
        rows = select(Job).where(Job.sweep_id == sweep_id).order_by(Job.created_at, Job.id)
        return list(session.scalars(rows))


def request_cancel_all(db: Database, project_id: str, sweep_id: str) -> Listed:
    """Cancel all of a sweep's jobs that have not ended, each as `jobs.request_cancel` does.

    Raises:
        NotFound
        NotCancellable: all had ended.
    """
    open_ = [job for job in jobs_of(db, project_id, sweep_id) if job.state not in ENDED]
    # Those that wait first: none of them shall be started by a worker that has just become free.
    for job in sorted(open_, key=lambda job: job.state == "running"):
        try:
            request_cancel(db, project_id, job.id)
        except NotCancellable:  # it ended meanwhile
            continue
    if not open_:
        raise NotCancellable(f"All jobs of sweep {sweep_id} have ended: there is nothing left to cancel.")
    return get(db, project_id, sweep_id)


def delete_sweep(db: Database, project_id: str, sweep_id: str) -> list[str]:
    """Delete a sweep whose jobs have all ended, with these.

    Returns:
        The blob keys that nothing refers to any more; the caller deletes them from the blob store.

    Raises:
        NotFound, NotDeletable
    """
    with db.write() as session:
        sweep = _find(session, project_id, sweep_id)
        rows = select(Job).where(Job.sweep_id == sweep_id).order_by(Job.id).with_for_update(key_share=True)
        jobs = session.scalars(rows).all()
        if running := sum(job.state not in ENDED for job in jobs):
            raise NotDeletable(
                f"{running} jobs of sweep {sweep_id} have not ended: cancel it first, or wait for their end."
            )
        keys = [key for job in jobs for key in forget_job(session, job.id)]
        session.execute(delete(JobSweep).where(JobSweep.id == sweep.id))
        return keys


def _find(session: Session, project_id: str, sweep_id: str) -> JobSweep:
    sweep = session.scalar(select(JobSweep).where(JobSweep.id == sweep_id, JobSweep.project_id == project_id))
    if sweep is None:
        raise NotFound("sweep", sweep_id)
    return sweep


def _states(session: Session, sweep_ids: Iterable[str]) -> dict[str, dict[JobState, int]]:
    counted = (
        select(Job.sweep_id, Job.state, func.count())
        .where(Job.sweep_id.in_(list(sweep_ids)))
        .group_by(Job.sweep_id, Job.state)
    )
    states: dict[str, dict[JobState, int]] = defaultdict(dict)
    for sweep_id, state, count in session.execute(counted):
        states[sweep_id or ""][state] = count
    return states


def _earlier(session: Session, project_id: str, key: str | None, body_hash: str | None) -> JobSweep | None:
    if key is None:
        return None
    sweep = session.scalar(
        select(JobSweep).where(JobSweep.project_id == project_id, JobSweep.idempotency_key == key)
    )
    if sweep is not None and sweep.idempotency_hash != body_hash:
        raise IdempotencyConflict(
            f"Idempotency-Key {key!r} was used before, for sweep {sweep.id}, with another request body: "
            "use a new key for a new request."
        )
    return sweep
