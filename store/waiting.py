"""Why a job does not run: its place in the queue, and the first thing that holds it back, in words."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from sqlalchemy import ScalarSelect, func, select
from sqlalchemy.orm import Session

from store.columns import unix_now
from store.database import Database
from store.models import Job
from store.quotas import Use, held_back
from store.workers import Crew, crew

WaitCode = Literal["paused", "backoff", "quota", "no_worker", "no_devices", "busy", "next"]


@dataclass(frozen=True)
class Waiting:
    """What a job waits for. `until` is in UNIX seconds, and None where nobody knows."""

    code: WaitCode
    message: str
    until: float | None
    jobs_ahead: int
    workers: int
    slots: int
    busy_slots: int


@dataclass(frozen=True)
class _Place:
    """A job that waits, and what is around it."""

    job: Job
    now: float
    crew: Crew
    silence_seconds: float
    busy: int
    ahead: int
    quota: Use | None


_Finding = tuple[WaitCode, str, float | None]


def why_waiting(db: Database, job: Job, silence_seconds: float) -> Waiting | None:
    """Say why a job waits; None for one that runs or has ended.

    Args:
        db: where it is.
        job: as it was just read.
        silence_seconds: a worker that was not heard of for so long counts as lost.
    """
    if job.state not in ("queued", "paused"):
        return None
    with db.read() as session:
        place = _look_around(session, job, silence_seconds)
    code, message, until = next(found for check in _CHECKS if (found := check(place)) is not None)
    return Waiting(code, message, until, place.ahead, place.crew.workers, place.crew.slots, place.busy)


def _look_around(session: Session, job: Job, silence_seconds: float) -> _Place:
    running = select(func.count()).select_from(Job).where(Job.state == "running").scalar_subquery()
    now, busy, ahead = session.execute(select(unix_now(), running, _jobs_before(job))).one()
    return _Place(
        job=job,
        now=now,
        crew=crew(session, silence_seconds),
        silence_seconds=silence_seconds,
        busy=busy,
        ahead=ahead if job.state == "queued" else 0,
        quota=held_back(session, job),
    )


def _paused(place: _Place) -> _Finding | None:
    if place.job.state != "paused":
        return None
    return "paused", f"Paused by its user until it is resumed: POST /v1/jobs/{place.job.id}/resume.", None


def _backing_off(place: _Place) -> _Finding | None:
    until = place.job.not_before
    if until is None or until <= place.now:
        return None
    return "backoff", f"After crash {place.job.crashes} it is tried again at {_moment(until)}.", until


def _over_quota(place: _Place) -> _Finding | None:
    if place.quota is None:
        return None
    running, most = place.quota
    message = f"Of its project {_jobs(running)} run, and {most} may (quota running_jobs): one must end first."
    return "quota", message, None


def _without_workers(place: _Place) -> _Finding | None:
    if place.crew.workers:
        return None
    seen_at = place.crew.seen_at
    last = (
        "none is known"
        if seen_at is None
        else f"the last was heard of at {_moment(seen_at)}, and is lost after {place.silence_seconds:g} s"
    )
    return "no_worker", f"No worker is running ({last}). Its operator starts one: `python -m worker`.", None


def _too_narrow(place: _Place) -> _Finding | None:
    most, wanted = place.crew.slot_devices, place.job.devices
    if wanted <= most:
        return None
    return (
        "no_devices",
        f"It asks for {wanted} devices, and no slot of a worker has more than {most}. Its operator starts a worker "
        f"with ABDISTILL_SLOT_DEVICES={wanted}; or clone it with fewer `devices`.",
        None,
    )


def _crowded(place: _Place) -> _Finding | None:
    if place.busy < place.crew.slots:
        return None
    return "busy", f"Every slot is busy ({_slots(place)}), with {_jobs(place.ahead)} ahead.", None


def _next(place: _Place) -> _Finding:
    if place.ahead:
        return (
            "next",
            f"A slot is free, and {_jobs(place.ahead)} ahead; it is taken within seconds of them.",
            None,
        )
    return "next", "A slot is free: a worker takes it within seconds.", None


# In the order in which they hold a job back: what does though a slot is free comes before what is about workers.
_CHECKS: tuple[Callable[[_Place], _Finding | None], ...] = (
    _paused,
    _backing_off,
    _over_quota,
    _without_workers,
    _too_narrow,
    _crowded,
    _next,
)


def _moment(seconds: float) -> str:
    # Never how long ago: an answer that is the same must look the same, or whoever waits for news is told of none.
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _slots(place: _Place) -> str:
    slots, workers = place.crew.slots, place.crew.workers
    return f"{slots} slot{'s' * (slots != 1)} of {workers} worker{'s' * (workers != 1)}"


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"


def _jobs_before(job: Job) -> ScalarSelect[int]:
    sooner = (Job.priority > job.priority) | (
        (Job.priority == job.priority)
        & ((Job.created_at < job.created_at) | ((Job.created_at == job.created_at) & (Job.id < job.id)))
    )
    return select(func.count()).select_from(Job).where(Job.state == "queued", sooner).scalar_subquery()
