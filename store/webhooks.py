"""Webhooks: where a project wants to be told of changes of state, and the secrets that sign what it is told."""

import base64
import binascii
import secrets
from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete as sql_delete
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from store.columns import unix_now
from store.cursors import Page, paginate
from store.database import Database
from store.errors import BadSecret, NotFound, TooManyWebhooks, WebhookDisabled
from store.ids import new_id
from store.models import Delivery, EventType, Json, Project, Webhook
from store.outbox import tell_test

PREFIX = "whsec_"
SECRET_BYTES = (24, 64)
NEW_SECRET_BYTES = 32
MOST_SECRETS = 5
BY_USER = "Disabled by its user."


def create(
    db: Database,
    project_id: str,
    *,
    url: str,
    events: Sequence[EventType],
    most: int,
    description: str | None = None,
    secret: str | None = None,
) -> tuple[Webhook, str]:
    """Return a new webhook and its secret, which is not shown again; without one, one is made.

    Raises:
        BadSecret
        TooManyWebhooks: the project has `most` already.
    """
    secret = new_secret() if secret is None else checked(secret)
    webhook = Webhook(
        id=new_id("whk"),
        project_id=project_id,
        url=url,
        description=description,
        events=sorted(set(events)),
        secrets=[{"secret": secret, "until": None}],
    )
    with db.write() as session:
        # Two requests at once must not both find the last free place.
        session.execute(select(Project.id).where(Project.id == project_id).with_for_update(key_share=True))
        count = session.scalar(select(func.count()).where(Webhook.project_id == project_id)) or 0
        if count >= most:
            raise TooManyWebhooks(f"The project has {count} webhooks; it may have {most}: delete one first.")
        session.add(webhook)
        session.flush()
        session.refresh(webhook)
    return webhook, secret


def get(db: Database, project_id: str, id_: str) -> Webhook:
    """Return one.

    Raises:
        NotFound
    """
    with db.read() as session:
        return find(session, project_id, id_)


def list_(db: Database, project_id: str, *, limit: int = 20, cursor: str | None = None) -> Page[Webhook]:
    """Return a page of webhooks, newest first.

    Raises:
        BadCursor
    """
    rows = select(Webhook).where(Webhook.project_id == project_id)
    order = (Webhook.created_at, Webhook.id)
    with db.read() as session:
        return paginate(session, rows, order, (float, str), limit=limit, cursor=cursor, descending=True)


def change(db: Database, project_id: str, id_: str, columns: dict[str, Any]) -> Webhook:
    """Set `url`, `events`, `description` or `enabled`, those that are given.

    What waits for a webhook that is disabled will not be sent; it can be redelivered later.

    Raises:
        NotFound
    """
    with db.write() as session:
        webhook = find(session, project_id, id_, lock=True)
        if columns.get("enabled") is False and webhook.enabled:
            disable(session, webhook, BY_USER)
        elif columns.get("enabled"):
            columns |= {"disabled_reason": None}
        for name, value in columns.items():
            setattr(webhook, name, sorted(set(value)) if name == "events" else value)
        return _written(session, webhook)


def delete(db: Database, project_id: str, id_: str) -> None:
    """Delete a webhook with its log; what waits to be sent is not sent.

    Raises:
        NotFound
    """
    with db.write() as session:
        find(session, project_id, id_, lock=True, delete=True)
        session.execute(sql_delete(Delivery).where(Delivery.webhook_id == id_))
        session.execute(sql_delete(Webhook).where(Webhook.id == id_))


def rotate_secret(
    db: Database, project_id: str, id_: str, *, overlap_seconds: float, secret: str | None = None
) -> tuple[Webhook, str]:
    """Return the webhook and its new secret; the one before signs too for `overlap_seconds` more.

    Raises:
        NotFound, BadSecret
    """
    secret = new_secret() if secret is None else checked(secret)
    with db.write() as session:
        webhook = find(session, project_id, id_, lock=True)
        now = float(session.scalar(select(unix_now())) or 0.0)
        current, *old = webhook.secrets
        kept = [current | {"until": now + overlap_seconds}, *(one for one in old if one["until"] > now)]
        kept = [one for one in kept if one["until"] > now and one["secret"] != secret]
        webhook.secrets = [{"secret": secret, "until": None}, *kept][:MOST_SECRETS]
        return _written(session, webhook), secret


def test(db: Database, project_id: str, id_: str) -> Delivery:
    """Write an event of type `webhook.test` for this webhook alone.

    Raises:
        NotFound, WebhookDisabled
    """
    with db.write() as session:
        webhook = find(session, project_id, id_, lock=True)
        if not webhook.enabled:
            raise WebhookDisabled(f"The webhook {id_} is disabled: enable it first.")
        now = float(session.scalar(select(unix_now())) or 0.0)
        delivery = session.get(Delivery, tell_test(session, webhook, now))
        assert delivery is not None, "it was just inserted"
        return delivery


def find(session: Session, project_id: str, id_: str, *, lock: bool = False, delete: bool = False) -> Webhook:
    """Return a webhook in the caller's transaction, locked for a change or for its deletion if asked for.

    Raises:
        NotFound
    """
    query = select(Webhook).where(Webhook.id == id_, Webhook.project_id == project_id)
    webhook = session.scalar(query.with_for_update(key_share=not delete) if lock else query)
    if webhook is None:
        raise NotFound("webhook", id_)
    return webhook


def disable(session: Session, webhook: Webhook, reason: str) -> None:
    """Tell a locked webhook nothing more; what waited has failed, and the log says why."""
    webhook.enabled, webhook.disabled_reason, webhook.updated_at = False, reason, unix_now()
    session.execute(
        update(Delivery)
        .where(Delivery.webhook_id == webhook.id, Delivery.state == "pending")
        .values(state="failed", error=reason, next_attempt_at=None, lease_expires_at=None)
        .execution_options(synchronize_session=False)
    )


def signing_secrets(webhook: Webhook, now: float) -> list[str]:
    """Return the secrets that sign at this moment (UNIX seconds), the newest first."""
    return [str(one["secret"]) for one in webhook.secrets if one["until"] is None or one["until"] > now]


def rotations(webhook: Webhook, now: float) -> list[float]:
    """Return until when (UNIX seconds) each secret that was replaced still signs, the newest first."""
    found: list[Json] = webhook.secrets
    return [float(one["until"]) for one in found if one["until"] is not None and one["until"] > now]


def new_secret() -> str:
    """Return a secret of 256 random bits."""
    return PREFIX + base64.b64encode(secrets.token_bytes(NEW_SECRET_BYTES)).decode()


def checked(secret: str) -> str:
    """Return a secret that its user chose, if it is one.

    Raises:
        BadSecret: the message does not repeat it.
    """
    least, most = SECRET_BYTES
    try:
        if not secret.startswith(PREFIX):
            raise ValueError("prefix")
        if not least <= len(base64.b64decode(secret.removeprefix(PREFIX), validate=True)) <= most:
            raise ValueError("length")
    except (ValueError, binascii.Error):
        raise BadSecret from None
    return secret


def _written(session: Session, webhook: Webhook) -> Webhook:
    webhook.updated_at = unix_now()
    session.flush()
    session.refresh(webhook)
    return webhook
