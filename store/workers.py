"""Which workers there are: each says again and again that it is there; one that is killed just stops saying so."""

from typing import NamedTuple

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session

from store.columns import unix_now
from store.database import Database
from store.job_models import Worker

FORGET_SECONDS = 86_400.0


class Crew(NamedTuple):
    """The workers that are alive: how many, how many jobs they can run at once, and when any was last heard of.

    `slot_devices`: the most devices that a slot of any of them has.
    """

    workers: int
    slots: int
    slot_devices: int
    seen_at: float | None


def announce(db: Database, worker_id: str, slots: int, slot_devices: int = 1) -> None:
    """Say that a worker is there, and can run so many jobs at once, each on so many devices.

    Those that were killed long ago are forgotten.
    """
    with db.write() as session:
        seen = update(Worker).where(Worker.id == worker_id).values(seen_at=unix_now()).returning(Worker.id)
        if session.scalar(seen) is None:
            session.execute(insert(Worker).values(id=worker_id, slots=slots, slot_devices=slot_devices))
            session.execute(delete(Worker).where(Worker.seen_at < unix_now() - FORGET_SECONDS))


def leave(db: Database, worker_id: str) -> None:
    """Say that a worker ends in good order."""
    with db.write() as session:
        session.execute(delete(Worker).where(Worker.id == worker_id))


def crew(session: Session, silence_seconds: float) -> Crew:
    """Return the workers that were heard of within `silence_seconds`, in the caller's transaction."""
    alive = Worker.seen_at >= unix_now() - silence_seconds
    slots = func.coalesce(func.sum(Worker.slots).filter(alive), 0)
    slot_devices = func.coalesce(func.max(Worker.slot_devices).filter(alive), 0)
    found = select(func.count().filter(alive), slots, slot_devices, func.max(Worker.seen_at))
    return Crew(*session.execute(found.select_from(Worker)).one())
