"""Deliveries: the log of what webhooks were told, and the sender's side of it: claim, record, give back.

A claim is a lease of some seconds: where the process that holds it is killed, another sends the same event again, with
the same id. So an event arrives at least once, and its receiver tells a second time by that id.
"""

import random
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, delete, exists, select, update
from sqlalchemy.orm import Session, aliased

from store import webhooks
from store.columns import unix_now
from store.cursors import Page, paginate
from store.database import Database
from store.errors import NotFound, WebhookDisabled
from store.models import Delivery, Webhook

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0
RETRY_SECONDS = (
    5.0, 5 * _MINUTE, 30 * _MINUTE, 2 * _HOUR, 5 * _HOUR, 10 * _HOUR, 14 * _HOUR,
)  # fmt: skip
"""Pauses between attempts; the first seven of the schedule that the Standard Webhooks specification recommends."""
JITTER = 0.2
GONE = "The receiver answered 410 Gone."
MOST_ERROR_CHARACTERS = 500


@dataclass(frozen=True)
class Claimed:
    """The right to send a delivery once; `now` is the database's clock, in UNIX seconds, when it was claimed."""

    delivery_id: str
    attempt: int
    webhook_id: str
    event_id: str
    url: str
    body: str
    secrets: tuple[str, ...]
    now: float


@dataclass(frozen=True)
class Outcome:
    """What came of sending: the status that the receiver answered with, or why there was no answer.

    `retry_after_seconds` is how long the receiver asked to be left alone.
    """

    status: int | None
    error: str | None = None
    retry_after_seconds: float = 0.0

    @property
    def succeeded(self) -> bool:
        """Whether the receiver has accepted the event."""
        return self.status is not None and 200 <= self.status < 300


def list_(
    db: Database, project_id: str, webhook_id: str, *, limit: int = 20, cursor: str | None = None
) -> Page[Delivery]:
    """Return a page of a webhook's log, newest first.

    Raises:
        NotFound, BadCursor
    """
    rows = select(Delivery).where(Delivery.webhook_id == webhook_id)
    order = (Delivery.created_at, Delivery.id)
    with db.read() as session:
        webhooks.find(session, project_id, webhook_id)
        return paginate(session, rows, order, (float, str), limit=limit, cursor=cursor, descending=True)


def get(db: Database, project_id: str, webhook_id: str, id_: str) -> Delivery:
    """Return one entry of a webhook's log.

    Raises:
        NotFound
    """
    with db.read() as session:
        webhooks.find(session, project_id, webhook_id)
        return _find(session, webhook_id, id_)


def redeliver(db: Database, project_id: str, webhook_id: str, id_: str) -> Delivery:
    """Send an event once more, now, with all retries before it, whatever became of it; its id stays.

    One that is being sent at this moment is left to that.

    Raises:
        NotFound, WebhookDisabled
    """
    with db.write() as session:
        webhook = webhooks.find(session, project_id, webhook_id, lock=True)
        if not webhook.enabled:
            raise WebhookDisabled(f"The webhook {webhook_id} is disabled: enable it first.")
        delivery = _find(session, webhook_id, id_, lock=True)
        if delivery.state != "pending" or delivery.lease_expires_at is None:
            delivery.state, delivery.failures, delivery.next_attempt_at = "pending", 0, unix_now()
            session.flush()
            session.refresh(delivery)
        return delivery


def claim(db: Database, lease_seconds: float) -> Claimed | None:
    """Take what has been due for longest; None where nothing is.

    Of one webhook, one delivery is sent at a time, so that a slow receiver gets in nobody else's way and a fast one
    hears of changes in their order. Two processes that look at the very same moment may still send it two: the order
    is a habit, no promise.
    """
    with db.read() as session:  # an idle sender must not take SQLite's one write lock
        if session.scalar(select(Delivery.id).where(*_due()).limit(1)) is None:
            return None
    with db.write() as session:
        row = session.execute(
            select(Delivery, Webhook)
            .join(Webhook, Webhook.id == Delivery.webhook_id)
            .where(*_due(), Webhook.enabled)
            .order_by(Delivery.next_attempt_at, Delivery.id)
            .limit(1)
            .with_for_update(of=Delivery, skip_locked=True)
        ).one_or_none()
        if row is None:
            return None
        delivery, webhook = row
        delivery.attempts += 1
        delivery.attempted_at = unix_now()
        delivery.lease_expires_at = unix_now() + lease_seconds
        session.flush()
        session.refresh(delivery)
        assert delivery.attempted_at is not None, "it was just set"
        return Claimed(
            delivery_id=delivery.id,
            attempt=delivery.attempts,
            webhook_id=webhook.id,
            event_id=delivery.event_id,
            url=webhook.url,
            body=delivery.body,
            secrets=tuple(webhooks.signing_secrets(webhook, delivery.attempted_at)),
            now=delivery.attempted_at,
        )


def record(db: Database, claimed: Claimed, outcome: Outcome) -> bool:
    """Write down what came of a claim: it succeeded, is tried again later, or has failed for good.

    Returns:
        False where the claim was no longer its holder's, and nothing was written.
    """
    with db.write() as session:
        if outcome.status == 410:
            # The webhook is locked before its deliveries, as where its user disables it: never crosswise.
            webhook = session.scalar(
                select(Webhook).where(Webhook.id == claimed.webhook_id).with_for_update(key_share=True)
            )
            if webhook is None or not _write(session, claimed, outcome, _ended("failed")):
                return False
            if webhook.enabled:
                webhooks.disable(session, webhook, GONE)
            return True
        if outcome.succeeded:
            return _write(session, claimed, outcome, _ended("succeeded"))
        failures = session.scalar(select(Delivery.failures).where(_holds(claimed)))
        if failures is None:
            return False
        if failures >= len(RETRY_SECONDS):
            return _write(session, claimed, outcome, _ended("failed") | {"failures": failures + 1})
        pause = max(
            RETRY_SECONDS[failures] * random.uniform(1 - JITTER, 1 + JITTER),
            min(outcome.retry_after_seconds, _DAY),
        )
        again = {"failures": failures + 1, "next_attempt_at": unix_now() + pause}
        return _write(session, claimed, outcome, again)


def give_back(db: Database, claimed: Claimed) -> None:
    """Let another sender have it at once: this one stops, and does not know what came of it."""
    with db.write() as session:
        session.execute(
            update(Delivery)
            .where(_holds(claimed))
            .values(lease_expires_at=None, next_attempt_at=unix_now())
            .execution_options(synchronize_session=False)
        )


def prune(db: Database, older_than_seconds: float) -> int:
    """Forget deliveries that were written so long ago and are not to be sent any more; return how many."""
    with db.write() as session:
        old = Delivery.created_at < unix_now() - older_than_seconds
        gone = session.execute(
            delete(Delivery).where(old, Delivery.state != "pending").returning(Delivery.id)
        ).all()
        return len(gone)


def _due() -> tuple[ColumnElement[bool], ...]:
    one = aliased(Delivery)
    being_sent = exists().where(one.webhook_id == Delivery.webhook_id, one.lease_expires_at >= unix_now())
    # A row that another sender takes between PostgreSQL's snapshot and its lock is looked at anew, but by its own
    # columns only: `being_sent` alone would still see it as it was, and it would be sent twice.
    free = Delivery.lease_expires_at.is_(None) | (Delivery.lease_expires_at < unix_now())
    return Delivery.state == "pending", Delivery.next_attempt_at <= unix_now(), free, ~being_sent


def _holds(claimed: Claimed) -> ColumnElement[bool]:
    return (
        (Delivery.id == claimed.delivery_id)
        & (Delivery.attempts == claimed.attempt)
        & (Delivery.state == "pending")
    )


def _ended(state: str) -> dict[str, Any]:
    return {"state": state, "next_attempt_at": None}


def _write(session: Session, claimed: Claimed, outcome: Outcome, columns: dict[str, Any]) -> bool:
    error = outcome.error and outcome.error[:MOST_ERROR_CHARACTERS]
    written = session.scalar(
        update(Delivery)
        .where(_holds(claimed))
        .values(lease_expires_at=None, response_status=outcome.status, error=error, **columns)
        .returning(Delivery.id)
        .execution_options(synchronize_session=False)
    )
    return written is not None


def _find(session: Session, webhook_id: str, id_: str, *, lock: bool = False) -> Delivery:
    query = select(Delivery).where(Delivery.id == id_, Delivery.webhook_id == webhook_id)
    delivery = session.scalar(query.with_for_update() if lock else query)
    if delivery is None:
        raise NotFound("delivery", id_)
    return delivery
