"""Rows of uploads that come in parts. `store.models` has what their content is for."""

from typing import Literal

from sqlalchemy import BigInteger, CheckConstraint, Double, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from store.columns import Base, CleanString, unix_now

PartUploadState = Literal["open", "complete"]
_Id = CleanString(40)
_Sha256 = String(64)


class PartUpload(Base):
    """A file that comes in parts of `part_bytes`, the last one smaller, and is `complete` when its sha256 was checked.

    Its bytes stay where its parts are: a complete one is read part after part, by any number of teachers and datasets
    of its project. `expires_at` moves on with every use.
    """

    __tablename__ = "uploads"
    __table_args__ = (
        Index(None, "project_id", "created_at", "id"),
        Index(None, "project_id", "sha256"),
        Index(None, "expires_at"),
        CheckConstraint("state IN ('open', 'complete')", name="state_known"),
    )

    id: Mapped[str] = mapped_column(_Id, primary_key=True)
    project_id: Mapped[str] = mapped_column(_Id, ForeignKey("projects.id"))
    state: Mapped[PartUploadState] = mapped_column(String(16), default="open")
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    part_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str | None] = mapped_column(_Sha256)
    created_at: Mapped[float] = mapped_column(Double, default=unix_now())
    updated_at: Mapped[float] = mapped_column(Double, default=unix_now())
    expires_at: Mapped[float] = mapped_column(Double)

    @property
    def num_parts(self) -> int:
        """How many parts the file has; their numbers begin at 1."""
        return -(-self.size_bytes // self.part_bytes)

    def bytes_of(self, number: int) -> int:
        """The size of a part."""
        return min(self.part_bytes, self.size_bytes - (number - 1) * self.part_bytes)


class UploadPart(Base):
    """A part that has arrived: its bytes are at `blob_key` of the blob store before this row exists."""

    __tablename__ = "upload_parts"

    upload_id: Mapped[str] = mapped_column(_Id, ForeignKey("uploads.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(_Sha256)
    blob_key: Mapped[str] = mapped_column(String(512))
    created_at: Mapped[float] = mapped_column(Double, default=unix_now())
