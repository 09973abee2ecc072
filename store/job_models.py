"""Rows around jobs: sweeps, workers, logs. `store.models` has the jobs themselves."""

from typing import Any

from sqlalchemy import BigInteger, Double, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from store.columns import Base, CleanString, json_type, unix_now

_Id = CleanString(40)


class JobSweep(Base):
    """Jobs that were queued together: one spec with fields that vary. `spec` is what its user asked for."""

    __tablename__ = "job_sweeps"
    __table_args__ = (
        UniqueConstraint("project_id", "idempotency_key"),
        Index(None, "project_id", "created_at", "id"),
    )

    id: Mapped[str] = mapped_column(_Id, primary_key=True)
    project_id: Mapped[str] = mapped_column(_Id, ForeignKey("projects.id"))
    name: Mapped[str | None] = mapped_column(CleanString)
    spec: Mapped[dict[str, Any]] = mapped_column(json_type)
    idempotency_key: Mapped[str | None] = mapped_column(CleanString(255))
    idempotency_hash: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[float] = mapped_column(Double, default=unix_now())


class Worker(Base):
    """A worker process that runs, or that was killed: `seen_at` is when it was last heard of."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(_Id, primary_key=True)
    slots: Mapped[int] = mapped_column()
    slot_devices: Mapped[int] = mapped_column(default=1, server_default="1")
    started_at: Mapped[float] = mapped_column(Double, default=unix_now())
    seen_at: Mapped[float] = mapped_column(Double, default=unix_now())


class LogChunk(Base):
    """Some whole lines of what a job's children wrote. `position`: bytes of the job's log before it."""

    __tablename__ = "log_chunks"

    job_id: Mapped[str] = mapped_column(_Id, ForeignKey("jobs.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    position: Mapped[int] = mapped_column(BigInteger)
    attempt: Mapped[int] = mapped_column()
    time: Mapped[float] = mapped_column(Double, default=unix_now())
    text: Mapped[str] = mapped_column(CleanString)
