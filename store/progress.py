"""What a run tells: progress, metrics and events, recorded in batches and read in pages."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import case, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from abcore import events as told
from store.cursors import Page, paginate
from store.database import Database
from store.jobs import find_job
from store.leases import Lease
from store.models import Event, Job, Metric
from store.moves import NewEvent, change


def record(db: Database, lease: Lease, records: Sequence[told.Record]) -> None:
    """Store a batch of a run's records, all or nothing: figures, events with sequence numbers, the job's progress.

    A figure that is recorded again (by an attempt that went on from a checkpoint) replaces the earlier one.

    Raises:
        LeaseLost: another attempt owns the job; nothing was stored.
    """
    if not records:
        return
    new_events = [event for one in records if (event := _event_of(one)) is not None]
    columns: dict[str, Any] = {}
    for one in records:
        columns |= _columns_of(one)
    with db.write() as session:
        job = change(session, lease.fence, new_events, metric_batch=Job.metric_batch + 1, **columns)
        _upsert_metrics(session, job, records)


def events(
    db: Database,
    project_id: str,
    job_id: str,
    after_seq: int = 0,
    limit: int = 100,
    *,
    levels: Sequence[str] = (),
    types: Sequence[str] = (),
) -> list[Event]:
    """Return the events that follow `after_seq`, in order; the last one's `seq` is where to go on.

    Only those of any of the `levels` and any of the `types`, where some are given.

    Raises:
        NotFound
    """
    with db.read() as session:
        find_job(session, project_id, job_id)
        rows = select(Event).where(Event.job_id == job_id, Event.seq > after_seq).order_by(Event.seq)
        if levels:
            rows = rows.where(Event.level.in_(levels))
        if types:
            rows = rows.where(Event.type.in_(types))
        return list(session.scalars(rows.limit(limit)))


def metrics(
    db: Database,
    project_id: str,
    job_id: str,
    *,
    names: Sequence[str] = (),
    phase: str | None = None,
    from_step: int | None = None,
    to_step: int | None = None,
    limit: int = 1000,
    after: str | None = None,
) -> Page[Metric]:
    """Return a page of figures in the order of phase, name and step; `after` is the page before's `next_cursor`.

    Only those of any of the `names`, and of steps from `from_step` to `to_step`, both included, where they are given.

    Raises:
        NotFound, BadCursor
    """
    rows = select(Metric).where(Metric.job_id == job_id)
    if names:
        rows = rows.where(Metric.name.in_(names))
    if phase is not None:
        rows = rows.where(Metric.phase == phase)
    if from_step is not None:
        rows = rows.where(Metric.step >= from_step)
    if to_step is not None:
        rows = rows.where(Metric.step <= to_step)
    with db.read() as session:
        find_job(session, project_id, job_id)
        order = (Metric.phase, Metric.name, Metric.step)
        return paginate(session, rows, order, (str, str, int), limit=limit, cursor=after)


def metrics_since(
    db: Database, project_id: str, job_id: str, after_batch: int, limit: int = 1000
) -> list[Metric]:
    """Return figures of the batches that follow `after_batch`, in order and by whole batches.

    `limit` is how many figures may make it more than one batch.

    Raises:
        NotFound
    """
    rows = select(Metric).where(Metric.job_id == job_id, Metric.batch > after_batch)
    with db.read() as session:
        find_job(session, project_id, job_id)
        ordered = rows.order_by(Metric.batch, Metric.phase, Metric.name, Metric.step)
        found = list(session.scalars(ordered.limit(limit)))
        if len(found) == limit:
            last = found[-1].batch
            whole = [metric for metric in found if metric.batch < last]
            found = whole or list(session.scalars(ordered.where(Metric.batch == last)))
        return found


def _upsert_metrics(session: Session, job: Job, records: Sequence[told.Record]) -> None:
    rows = {
        (one.phase, name, one.step): {
            "job_id": job.id,
            "batch": job.metric_batch,
            "phase": one.phase,
            "name": name,
            "step": one.step,
            "epoch": one.epoch,
            "value": value,
            "time": one.time,
        }
        for one in records
        if isinstance(one, told.Metrics)
        for name, value in one.values.items()
    }
    if not rows:
        return
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    insert = dialect.insert(Metric)
    upsert = insert.on_conflict_do_update(
        index_elements=["job_id", "phase", "name", "step"],
        set_={column: insert.excluded[column] for column in ("batch", "epoch", "value", "time")},
    )
    session.execute(upsert, list(rows.values()))


def _columns_of(one: told.Record) -> dict[str, Any]:
    match one:
        case told.Progress():
            return {
                "progress": one.fraction,
                "phase": one.phase,
                "epoch": one.epoch,
                "step": one.step,
                "images_per_second": one.images_per_second,
                "eta_seconds": one.eta_seconds,
            }
        case told.PhaseStarted():
            return {"phase": one.phase}
        case told.CheckpointSaved():
            further = Job.checkpoint_step < one.global_step
            return {"checkpoint_step": case((further, one.global_step), else_=Job.checkpoint_step)}
        case _:
            return {}


def _event_of(one: told.Record) -> NewEvent | None:
    if isinstance(one, told.Metrics | told.Progress | told.AnswersWanted):
        return None  # stored as figures, or for the worker alone
    level, message = told.in_words(one)
    data = one.model_dump(mode="json", exclude={"time", "type"})
    return NewEvent(one.type, message, level=level, data=data, time=one.time)
