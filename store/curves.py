"""Figures of several jobs, to be laid over each other."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import and_, func, select

from store.database import Database
from store.models import Metric


class EpochFigure(NamedTuple):
    """The last value of a figure in an epoch of a phase."""

    job_id: str
    phase: str
    name: str
    epoch: int
    value: float


def last_of_epochs(db: Database, job_ids: Sequence[str], names: Sequence[str]) -> list[EpochFigure]:
    """Return the figures of these names, one an epoch, in the order of phase, name, job and epoch."""
    key = (Metric.job_id, Metric.phase, Metric.name, Metric.epoch)
    last = (
        select(*key, func.max(Metric.step).label("step"))
        .where(Metric.job_id.in_(job_ids), Metric.name.in_(names))
        .group_by(*key)
        .subquery()
    )
    same = and_(
        Metric.job_id == last.c.job_id,
        Metric.phase == last.c.phase,
        Metric.name == last.c.name,
        Metric.step == last.c.step,
    )
    rows = select(*key, Metric.value).join(last, same)
    ordered = rows.order_by(Metric.phase.desc(), Metric.name, Metric.job_id, Metric.epoch)
    with db.read() as session:
        return [EpochFigure(*row) for row in session.execute(ordered)]


def names_of(db: Database, job_ids: Sequence[str]) -> list[str]:
    """Return the names of all figures that any of the jobs has."""
    rows = select(Metric.name).where(Metric.job_id.in_(job_ids)).distinct().order_by(Metric.name)
    with db.read() as session:
        return list(session.scalars(rows))
