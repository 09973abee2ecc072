"""What teachers answered, in the blob store for all workers: found by project, teacher and dataset."""

from collections.abc import Sequence

from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError

from store.answer_models import SharedAnswers
from store.blobs import Blob
from store.columns import unix_now
from store.database import Database
from store.ids import new_id

MOST_EVICTED_AT_ONCE = 100


def new_key(project_id: str, subject: str) -> str:
    """Return a blob key that was never used: what two workers put at once, or one puts again, does not meet."""
    return f"answers/{project_id}/{subject}/{new_id('ans')}"


def find(db: Database, project_id: str, subject: str) -> Sequence[SharedAnswers]:
    """Return what there is about a teacher and a dataset of a project."""
    row = SharedAnswers
    with db.read() as session:
        return session.scalars(
            select(row).where(row.project_id == project_id, row.subject == subject).order_by(row.name)
        ).all()


def has(db: Database, project_id: str, subject: str, name: str) -> bool:
    """Whether there is a file of this name."""
    row = SharedAnswers
    same = (row.project_id == project_id, row.subject == subject, row.name == name)
    with db.read() as session:
        return session.scalar(select(row.id).where(*same)) is not None


def add(db: Database, project_id: str, subject: str, name: str, blob: Blob) -> bool:
    """Say that a file is in the blob store. False: another is there already, and the caller deletes its own."""
    row = SharedAnswers(
        id=new_id("ans"),
        project_id=project_id,
        subject=subject,
        name=name,
        size_bytes=blob.size,
        sha256=blob.sha256,
        blob_key=blob.key,
    )
    try:
        with db.write() as session:
            session.add(row)
    except IntegrityError:
        return False
    return True


def touch(db: Database, id_: str) -> None:
    """Say that somebody has use for a file."""
    with db.write() as session:
        session.execute(update(SharedAnswers).where(SharedAnswers.id == id_).values(used_at=unix_now()))


def forget(db: Database, id_: str) -> None:
    """Forget a file, which the caller deletes then."""
    with db.write() as session:
        session.execute(delete(SharedAnswers).where(SharedAnswers.id == id_))


def evict(db: Database, *, unused_seconds: float, most_bytes: int) -> list[str]:
    """Forget some of what nobody used for so long, or that is too much, the longest unused first.

    Returns:
        The keys of their blobs, which the caller deletes; none where nothing is left to forget.
    """
    row = SharedAnswers
    with db.write() as session:
        excess = int(session.scalar(select(func.coalesce(func.sum(row.size_bytes), 0))) or 0) - most_bytes
        expired = session.execute(select(unix_now())).scalar_one() - unused_seconds
        due = []
        for one in session.scalars(select(row).order_by(row.used_at, row.id).limit(MOST_EVICTED_AT_ONCE)):
            if excess <= 0 and one.used_at >= expired:
                break
            excess -= one.size_bytes
            due.append(one)
        session.execute(delete(row).where(row.id.in_([one.id for one in due])))
        return [one.blob_key for one in due]
