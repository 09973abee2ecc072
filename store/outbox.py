"""Changes of state on their way out: what a webhook shall be told is written in the transaction of the change itself.

So an event is sent for every change that was committed, and for none that was not; `store.deliveries` is where it
goes from here.
"""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import get_args

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from store.columns import storable
from store.ids import new_id
from store.models import Dataset, Delivery, EventType, Job, Json, Teacher, Webhook

EVENT_TYPES: tuple[EventType, ...] = get_args(EventType)
TEST_EVENT = "webhook.test"
MOST_REASON_CHARACTERS = 1000
_SHOWN_KINDS = {"distill": "distill", "train_teacher": "teacher.train"}


def job_moved(session: Session, job: Job) -> None:
    """Tell of the state that a job is in since this transaction; a verification is told of as its upload's state."""
    if job.kind not in _SHOWN_KINDS:
        return
    data = {
        "object": "job",
        "id": job.id,
        "kind": _SHOWN_KINDS[job.kind],
        "state": job.state,
        "reason": _short(job.state_reason),
        "name": job.name,
        "labels": job.labels,
        "teacher": job.teacher_id,
        "dataset": job.dataset_id,
        "attempts": job.attempts,
    }
    _tell(session, job.project_id, f"job.{job.state}", job.updated_at, data)


def upload_settled(session: Session, row: Teacher | Dataset) -> None:
    """Tell that a teacher or a dataset has become ready or invalid."""
    if row.deleted_at is not None:
        return
    kind = "teacher" if isinstance(row, Teacher) else "dataset"
    data = {
        "object": kind,
        "id": row.id,
        "state": row.state,
        "reason": _short(row.state_detail),
        "name": row.name,
    }
    _tell(session, row.project_id, f"{kind}.{row.state}", row.updated_at, data)


def tell_test(session: Session, webhook: Webhook, now: float) -> str:
    """Write an event that tells of nothing, for one webhook; return its delivery's id. `now` is in UNIX seconds."""
    data = {"object": "webhook", "id": webhook.id, "state": "enabled"}
    (id_,) = _write(session, [webhook.id], TEST_EVENT, now, data)
    return id_


def _tell(session: Session, project_id: str, type_: str, at: float, data: Json) -> None:
    # The lock makes a webhook that is being deleted or disabled either see this delivery, or not be found here.
    rows = session.execute(
        select(Webhook.id, Webhook.events)
        .where(Webhook.project_id == project_id, Webhook.enabled)
        .with_for_update(read=True)
    )
    _write(session, [row.id for row in rows if type_ in row.events], type_, at, data)


def _write(session: Session, webhook_ids: Iterable[str], type_: str, at: float, data: Json) -> list[str]:
    event = {"type": type_, "timestamp": _rfc3339(at), "data": storable(data)}
    event_id = new_id("evt")
    rows = [
        {
            "id": new_id("dlv"),
            "webhook_id": webhook_id,
            "event_id": event_id,
            "type": type_,
            "body": json.dumps(event, separators=(",", ":")),
        }
        for webhook_id in webhook_ids
    ]
    if rows:
        session.execute(insert(Delivery), rows)
    return [row["id"] for row in rows]


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _short(text: str | None) -> str | None:
    if text is None or len(text) <= MOST_REASON_CHARACTERS:
        return text
    return text[:MOST_REASON_CHARACTERS] + "…"
