"""Rows of the audit log: who did what, when and from where, and what came of it."""

from sqlalchemy import Double, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from store.columns import Base, CleanString

_Id = CleanString(40)


class AuditEntry(Base):
    """A request that asked for a change, or that was refused for its key. Never a body, a query or a secret.

    `project_id` and `key_id` are null where no good key was sent. They are no foreign keys: an entry outlives what it
    speaks of. `time` is when the request was answered, in UNIX seconds by the clock of the API process.
    """

    __tablename__ = "audit_entries"
    __table_args__ = (
        Index(None, "project_id", "time", "id"),
        Index(None, "project_id", "object_id", "time", "id"),
        Index(None, "time"),
    )

    id: Mapped[str] = mapped_column(_Id, primary_key=True)
    time: Mapped[float] = mapped_column(Double)
    project_id: Mapped[str | None] = mapped_column(_Id)
    key_id: Mapped[str | None] = mapped_column(_Id)
    key_name: Mapped[str | None] = mapped_column(CleanString)
    operation: Mapped[str] = mapped_column(String(64))
    object_id: Mapped[str | None] = mapped_column(CleanString(64))
    status: Mapped[int] = mapped_column()
    address: Mapped[str | None] = mapped_column(CleanString(64))
    request_id: Mapped[str] = mapped_column(String(64))
