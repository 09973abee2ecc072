"""Lists of jobs: which are shown, in which order, page by page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import InstrumentedAttribute

from store.cursors import Page, paginate
from store.database import Database
from store.models import Job, JobKind, JobState

_Order = tuple[tuple[InstrumentedAttribute[Any], ...], tuple[type, ...]]


@dataclass(frozen=True)
class JobFilter:
    """Which jobs a list shows; what is None or empty does not matter. Times are UNIX seconds."""

    kind: JobKind = "distill"
    states: Sequence[JobState] = ()
    methods: Sequence[str] = ()
    sweep_id: str | None = None
    teacher_id: str | None = None
    dataset_id: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    created_from: float | None = None
    created_before: float | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """As conditions on a job."""
        conditions = [Job.kind == self.kind]
        if self.states:
            conditions.append(Job.state.in_(self.states))
        if self.methods:
            conditions.append(Job.method.in_(self.methods))
        if self.sweep_id is not None:
            conditions.append(Job.sweep_id == self.sweep_id)
        if self.teacher_id is not None:
            conditions.append(Job.teacher_id == self.teacher_id)
        if self.dataset_id is not None:
            conditions.append(Job.dataset_id == self.dataset_id)
        conditions += [Job.labels[key].as_string() == value for key, value in self.labels.items()]
        if self.created_from is not None:
            conditions.append(Job.created_at >= self.created_from)
        if self.created_before is not None:
            conditions.append(Job.created_at < self.created_before)
        return conditions


JobOrder = Literal["newest", "oldest", "priority", "ended"]
_BY_AGE: _Order = ((Job.created_at, Job.id), (float, str))
_ORDERS: dict[JobOrder, _Order] = {
    "newest": _BY_AGE,
    "oldest": _BY_AGE,
    "priority": ((Job.priority, Job.created_at, Job.id), (int, float, str)),
    "ended": ((Job.ended_at, Job.id), (float, str)),
}


def list_jobs(
    db: Database,
    project_id: str,
    shown: JobFilter | None = None,
    *,
    order: JobOrder = "newest",
    limit: int = 20,
    cursor: str | None = None,
) -> Page[Job]:
    """Return a page of jobs: newest or oldest first, of highest priority first, or those that ended, the last first.

    Raises:
        BadCursor
    """
    rows = select(Job).where(Job.project_id == project_id, *(shown or JobFilter()).conditions())
    if order == "ended":
        rows = rows.where(Job.ended_at.is_not(None))
    columns, types = _ORDERS[order]
    with db.read() as session:
        return paginate(
            session,
            rows,
            columns,
            types,
            limit=limit,
            cursor=cursor,
            descending=order != "oldest",
            order=order,
        )


def find_all(db: Database, project_id: str, job_ids: Sequence[str]) -> list[Job]:
    """Return those distillations of the project that have these ids, in no order."""
    rows = select(Job).where(Job.project_id == project_id, Job.kind == "distill", Job.id.in_(job_ids))
    with db.read() as session:
        return list(session.scalars(rows))
