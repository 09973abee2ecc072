"""Rows of what teachers answered, where one worker has it and others may fetch it."""

from sqlalchemy import BigInteger, Double, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from store.columns import Base, CleanString, unix_now

_Id = CleanString(40)


class SharedAnswers(Base):
    """A file of a teacher's answers: its bytes are at `blob_key` of the blob store before this row exists.

    `subject` names the teacher and the dataset that it is about, `name` all else that its bytes depend on. The project
    is part of what a file is found by: what another project's job has left is never looked at.
    """

    __tablename__ = "shared_answers"
    __table_args__ = (
        UniqueConstraint("project_id", "subject", "name"),
        Index(None, "used_at"),
    )

    id: Mapped[str] = mapped_column(_Id, primary_key=True)
    project_id: Mapped[str] = mapped_column(_Id, ForeignKey("projects.id"))
    subject: Mapped[str] = mapped_column(String(32))
    name: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    blob_key: Mapped[str] = mapped_column(String(512))
    created_at: Mapped[float] = mapped_column(Double, default=unix_now())
    used_at: Mapped[float] = mapped_column(Double, default=unix_now())
