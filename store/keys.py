"""API keys: shown once, kept as hashes, good until they expire or are revoked."""

import hashlib
import hmac
import logging
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, get_args

from sqlalchemy import or_, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from store.columns import unix_now
from store.cursors import Page, paginate
from store.database import Database
from store.errors import KeyExpired, LastAdminKey, NotFound, Unauthenticated
from store.ids import new_id
from store.models import ApiKey, Project

Scope = Literal["read", "submit", "admin"]
SCOPES: frozenset[Scope] = frozenset(get_args(Scope))
USE_SECONDS = 60.0
"""How old the time of a key's last use may be before it is written anew."""
_PREFIX = "abd_"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Principal:
    """Who asks: a key, its project, and what it may do there."""

    key_id: str
    key_name: str
    project_id: str
    scopes: frozenset[str]


def create_key(
    db: Database,
    project_id: str,
    name: str,
    scopes: Collection[Scope] = SCOPES,
    *,
    lifetime_seconds: float | None = None,
) -> tuple[ApiKey, str]:
    """Return a new key's row and its secret, which cannot be had again. Without a lifetime it never expires.

    Raises:
        NotFound: no such project.
    """
    secret = _new_secret()
    key = ApiKey(
        id=new_id("key"),
        project_id=project_id,
        name=name,
        secret_sha256=_hash(secret),
        hint=secret[-4:],
        scopes=sorted(scopes),
        expires_at=None if lifetime_seconds is None else unix_now() + lifetime_seconds,
    )
    with db.write() as session:
        if session.get(Project, project_id) is None:
            raise NotFound("project", project_id)
        session.add(key)
        session.flush()
        session.refresh(key)
    return key, secret


def authenticate(db: Database, token: str) -> Principal:
    """Return who holds this secret.

    A secret has 256 random bits, so a plain hash cannot be guessed, and looking it up by its hash tells a clock nothing
    about it. Nothing is remembered here from one call to the next: to this, what is revoked is worthless at once.

    Raises:
        Unauthenticated, KeyExpired
    """
    given = _hash(token)
    with db.read() as session:
        found = session.execute(
            select(ApiKey, unix_now()).where(
                or_(ApiKey.secret_sha256 == given, ApiKey.previous_sha256 == given),
                ApiKey.revoked_at.is_(None),
            )
        ).one_or_none()
    if found is None:
        raise Unauthenticated
    key, now = found
    if not _opens(key, given, now):
        raise Unauthenticated(f"The secret of key {key.id} was replaced by a newer one: use that.")
    _require_alive(key, now)
    if key.last_used_at is None or key.last_used_at <= now - USE_SECONDS:
        try:
            _write_down_use(db, key.id)
        except (
            OperationalError
        ) as error:  # a database that is busy with writing answers questions all the same
            _log.warning("the use of key %s was not written down: %s", key.id, error.orig)
    return Principal(key.id, key.name, key.project_id, frozenset(key.scopes))


def require_good(db: Database, key_id: str) -> None:
    """Refuse to go on for a key that was let in a while ago, and was revoked or has expired since.

    Raises:
        Unauthenticated, KeyExpired
    """
    with db.read() as session:
        mine = select(ApiKey, unix_now()).where(ApiKey.id == key_id, ApiKey.revoked_at.is_(None))
        found = session.execute(mine).one_or_none()
    if found is None:
        raise Unauthenticated(f"The key {key_id} was revoked.")
    _require_alive(*found)


def list_keys(db: Database, project_id: str) -> list[ApiKey]:
    """Return a project's keys, the revoked ones too, oldest first."""
    with db.read() as session:
        rows = select(ApiKey).where(ApiKey.project_id == project_id)
        return list(session.scalars(rows.order_by(ApiKey.created_at, ApiKey.id)))


def page_of_keys(
    db: Database, project_id: str, *, limit: int = 20, cursor: str | None = None
) -> Page[ApiKey]:
    """Return a page of a project's keys, the revoked ones too, newest first.

    Raises:
        BadCursor
    """
    rows = select(ApiKey).where(ApiKey.project_id == project_id)
    order = (ApiKey.created_at, ApiKey.id)
    with db.read() as session:
        return paginate(session, rows, order, (float, str), limit=limit, cursor=cursor, descending=True)


def get_key(db: Database, project_id: str, key_id: str) -> ApiKey:
    """Return a key that was not revoked.

    Raises:
        NotFound
    """
    with db.read() as session:
        return _find(session, project_id, key_id)


def revoke_key(db: Database, project_id: str, key_id: str, *, leave_admin: bool = False) -> ApiKey:
    """Make a key worthless from the next request on; with `leave_admin` not the last that may make others.

    Raises:
        NotFound: no such key, or revoked before.
        LastAdminKey
    """
    with db.write() as session:
        if leave_admin:  # two admins who revoke each other must not both find the other's key
            session.execute(
                select(Project.id).where(Project.id == project_id).with_for_update(key_share=True)
            )
        key = _find(session, project_id, key_id, lock=True)
        if leave_admin and "admin" in key.scopes and not _other_admins(session, key):
            raise LastAdminKey(f"The key {key_id} is the project's last one with the scope admin.")
        key.revoked_at = unix_now()
        session.flush()
        session.refresh(key)
        return key


def rotate_key(db: Database, project_id: str, key_id: str, *, overlap_seconds: float) -> tuple[ApiKey, str]:
    """Return the key and its new secret; the one before opens too for `overlap_seconds` more.

    Raises:
        NotFound: no such key, or revoked.
        KeyExpired: a new secret would open nothing.
    """
    secret = _new_secret()
    with db.write() as session:
        key = _find(session, project_id, key_id, lock=True)
        _require_alive(key, session.scalar(select(unix_now())) or 0.0)
        key.previous_sha256, key.previous_until = key.secret_sha256, unix_now() + overlap_seconds
        key.secret_sha256, key.hint = _hash(secret), secret[-4:]
        session.flush()
        session.refresh(key)
        return key, secret


def _find(session: Session, project_id: str, key_id: str, *, lock: bool = False) -> ApiKey:
    """Return a key that was not revoked, locked for a change if asked for."""
    mine = ApiKey.id == key_id, ApiKey.project_id == project_id, ApiKey.revoked_at.is_(None)
    query = select(ApiKey).where(*mine)
    key = session.scalar(query.with_for_update() if lock else query)
    if key is None:
        raise NotFound("key", key_id)
    return key


def _other_admins(session: Session, key: ApiKey) -> bool:
    """Whether another key of its project is good now, and may do everything."""
    good = or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > unix_now())
    others = ApiKey.project_id == key.project_id, ApiKey.id != key.id, ApiKey.revoked_at.is_(None), good
    return any("admin" in scopes for scopes in session.scalars(select(ApiKey.scopes).where(*others)))


def _opens(key: ApiKey, given: str, now: float) -> bool:
    """Whether a hash is that of a secret that still holds; takes the same time whichever of the two it is."""
    current = hmac.compare_digest(key.secret_sha256, given)
    previous = hmac.compare_digest(key.previous_sha256 or "", given)
    return current or (previous and (key.previous_until or 0.0) > now)


def _require_alive(key: ApiKey, now: float) -> None:
    if key.expires_at is not None and key.expires_at <= now:
        moment = datetime.fromtimestamp(key.expires_at, UTC)
        raise KeyExpired(f"The key {key.id} expired at {moment:%Y-%m-%d %H:%M:%S} UTC.")


def _write_down_use(db: Database, key_id: str) -> None:
    with db.write() as session:
        long_ago = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at <= unix_now() - USE_SECONDS)
        session.execute(
            update(ApiKey)
            .where(ApiKey.id == key_id, long_ago)
            .values(last_used_at=unix_now())
            .execution_options(synchronize_session=False)
        )


def _new_secret() -> str:
    return _PREFIX + secrets.token_urlsafe(32)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
