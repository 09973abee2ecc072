"""API keys: shown once, kept as hashes."""

import hashlib
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, get_args

from sqlalchemy import select

from store.columns import unix_now
from store.database import Database
from store.errors import NotFound, Unauthenticated
from store.ids import new_id
from store.models import ApiKey

Scope = Literal["read", "submit", "admin"]
SCOPES: frozenset[Scope] = frozenset(get_args(Scope))
_PREFIX = "abd_"


@dataclass(frozen=True)
class Principal:
    """Who asks: a key, its project, and what it may do there."""

    key_id: str
    project_id: str
    scopes: frozenset[str]


def create_key(
    db: Database, project_id: str, name: str, scopes: Collection[Scope] = SCOPES
) -> tuple[ApiKey, str]:
    """Return a new key's row and its secret, which cannot be had again."""
    secret = _PREFIX + secrets.token_urlsafe(32)
    key = ApiKey(
        id=new_id("key"),
        project_id=project_id,
        name=name,
        secret_sha256=_hash(secret),
        hint=secret[-4:],
        scopes=sorted(scopes),
    )
    with db.write() as session:
        session.add(key)
    return key, secret


def authenticate(db: Database, token: str) -> Principal:
    """Return who holds this secret.

    A secret has 256 random bits, so a plain hash cannot be guessed, and looking it up by its hash tells a clock nothing
    about it.

    Raises:
        Unauthenticated
    """
    with db.read() as session:
        key = session.scalar(
            select(ApiKey).where(ApiKey.secret_sha256 == _hash(token), ApiKey.revoked_at.is_(None))
        )
    if key is None:
        raise Unauthenticated
    return Principal(key.id, key.project_id, frozenset(key.scopes))


def list_keys(db: Database, project_id: str) -> list[ApiKey]:
    """Return a project's keys, the revoked ones too, oldest first."""
    with db.read() as session:
        rows = select(ApiKey).where(ApiKey.project_id == project_id)
        return list(session.scalars(rows.order_by(ApiKey.created_at, ApiKey.id)))


def revoke_key(db: Database, project_id: str, key_id: str) -> ApiKey:
    """Make a key worthless from the next request on.

    Raises:
        NotFound: no such key, or revoked before.
    """
    with db.write() as session:
        key = session.scalar(
            select(ApiKey).where(
                ApiKey.id == key_id, ApiKey.project_id == project_id, ApiKey.revoked_at.is_(None)
            )
        )
        if key is None:
            raise NotFound("key", key_id)
        key.revoked_at = unix_now()
        session.flush()
        session.refresh(key)
        return key


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
