"""The audit log: written in batches, read by project, forgotten by age."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, delete, insert, select

from store.audit_models import AuditEntry
from store.columns import unix_now
from store.cursors import Page, paginate
from store.database import Database


@dataclass(frozen=True)
class AuditFilter:
    """Which entries a list shows; what is None does not matter. Times are UNIX seconds."""

    key_id: str | None = None
    operation: str | None = None
    object_id: str | None = None
    time_from: float | None = None
    time_before: float | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """As conditions on an entry."""
        conditions = []
        if self.key_id is not None:
            conditions.append(AuditEntry.key_id == self.key_id)
        if self.operation is not None:
            conditions.append(AuditEntry.operation == self.operation)
        if self.object_id is not None:
            conditions.append(AuditEntry.object_id == self.object_id)
        if self.time_from is not None:
            conditions.append(AuditEntry.time >= self.time_from)
        if self.time_before is not None:
            conditions.append(AuditEntry.time < self.time_before)
        return conditions


def record(db: Database, entries: Sequence[dict[str, Any]]) -> None:
    """Write entries, as columns of `AuditEntry`; those that are there already stay as they are.

    So a batch may be sent again where nobody knows whether the last attempt was committed.
    """
    ids = [entry["id"] for entry in entries]
    with db.write() as session:
        known = set(session.scalars(select(AuditEntry.id).where(AuditEntry.id.in_(ids))))
        new = [entry for entry in entries if entry["id"] not in known]
        if new:
            session.execute(insert(AuditEntry), new)


def list_entries(
    db: Database,
    project_id: str | None,
    wanted: AuditFilter = AuditFilter(),
    *,
    limit: int = 20,
    cursor: str | None = None,
) -> Page[AuditEntry]:
    """Return a page of a project's entries, newest first; without a project those of requests without a good key.

    Raises:
        BadCursor
    """
    rows = select(AuditEntry).where(AuditEntry.project_id == project_id, *wanted.conditions())
    order = (AuditEntry.time, AuditEntry.id)
    with db.read() as session:
        return paginate(session, rows, order, (float, str), limit=limit, cursor=cursor, descending=True)


def prune(db: Database, older_than_seconds: float) -> None:
    """Forget entries of longer ago."""
    with db.write() as session:
        session.execute(
            delete(AuditEntry)
            .where(AuditEntry.time < unix_now() - older_than_seconds)
            .execution_options(synchronize_session=False)
        )
