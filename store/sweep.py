"""Take back what lost workers held. Any process may call it at any time: one at a time does it, the others go home."""

from dataclasses import dataclass

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from abcore.specs.refusals import Problem
from store.columns import unix_now
from store.database import Database
from store.endings import LONGEST_BACKOFF_SECONDS, Crash, charge
from store.models import Job, Sweep
from store.quotas import claimable

GUARD = "jobs"
MOST_AT_ONCE = 100


@dataclass(frozen=True)
class Swept:
    """What a sweep found: jobs that wait for a ring, and jobs whose lease had expired.

    `recovered` may go on elsewhere, or have ended (at the last crash, or where their user had asked for it).
    """

    rings_needed: int
    recovered: list[str]


def sweep(
    db: Database, *, sweep_seconds: float = 15.0, max_crashes: int = 3, lease_seconds: float = 60.0
) -> Swept:
    """Charge a crash to every job whose lease has expired, and count those that can be claimed now.

    Does nothing where another process swept less than `sweep_seconds` ago. The caller rings the `Doorbell`
    `rings_needed` times.
    """
    with db.write() as session:
        if not my_turn(session, GUARD, sweep_seconds):
            return Swept(0, [])
        _shorten(session, lease_seconds)
        expired = session.scalars(
            select(Job)
            .where(Job.state == "running", Job.lease_expires_at < unix_now())
            .order_by(Job.lease_expires_at)
            .limit(MOST_AT_ONCE)
            .with_for_update(skip_locked=True, key_share=True)
        ).all()
        recovered = [charge(session, job, _lost_worker(job), max_crashes).id for job in expired]
        waiting = select(func.count()).select_from(Job).where(*claimable())
        return Swept(session.scalar(waiting) or 0, recovered)


def my_turn(session: Session, name: str, every_seconds: float) -> bool:
    """Whether nobody did this less than `every_seconds` ago; then nobody else will, from this transaction's end on."""
    due = (
        Sweep.name == name,
        # A clock that was set back must not stop sweeps until it has caught up.
        or_(Sweep.swept_at <= unix_now() - every_seconds, Sweep.swept_at > unix_now() + every_seconds),
    )
    if session.scalar(select(Sweep.name).where(*due).with_for_update(skip_locked=True)) is None:
        return False
    session.execute(
        update(Sweep)
        .where(Sweep.name == name)
        .values(swept_at=unix_now())
        .execution_options(synchronize_session=False)
    )
    return True


def _shorten(session: Session, lease_seconds: float) -> None:
    """A clock that was set back makes leases and waits longer than any that is given: none may outlast its like."""
    for state, end, longest in (
        ("running", Job.lease_expires_at, lease_seconds),
        ("queued", Job.not_before, LONGEST_BACKOFF_SECONDS),
    ):
        session.execute(
            update(Job)
            .where(Job.state == state, end > unix_now() + longest)
            .values({end: unix_now() + longest})
            .execution_options(synchronize_session=False)
        )


def _lost_worker(job: Job) -> Crash:
    return Crash(
        Problem(
            code="worker.lost",
            message=f"Worker {job.lease_owner} was not heard of until its lease on the job had run out.",
            hint="Look into that worker's log: it was killed, froze, or could not reach the database.",
        )
    )
