"""Which files of the blob store rows speak of: every column that holds a blob key is in this one list.

A file that no row speaks of is either on its way (written, its row not yet committed) or was left by a process that
died between the two. Whoever removes such files must leave the young ones alone.
"""

from collections.abc import Collection, Iterator
from typing import Any

from sqlalchemy import Select, select

from store.answer_models import SharedAnswers
from store.database import Database
from store.models import Artifact, Dataset, Teacher
from store.upload_models import UploadPart

MOST_AT_ONCE = 500
"""Parameters of one statement: SQLite takes some thousands, no more."""


def _rows() -> tuple[Select[Any], ...]:
    """The queries whose one column is a blob key that must stay."""
    return (
        *(select(kind.blob_key).where(kind.deleted_at.is_(None)) for kind in (Teacher, Dataset)),
        # What a job made for a teacher or a dataset lives and goes with that row, not with the job's.
        select(Artifact.blob_key).where(Artifact.blob_key.startswith("jobs/")),
        select(UploadPart.blob_key),
        select(SharedAnswers.blob_key),
    )


def referenced(db: Database, keys: Collection[str]) -> set[str]:
    """Return those of `keys` that a row speaks of, in all projects."""
    found: set[str] = set()
    with db.read() as session:
        for some in _slices(list(keys)):
            for rows in _rows():
                key = rows.selected_columns[0]
                found.update(session.scalars(rows.where(key.in_(some))))
    return found


def _slices(keys: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(keys), MOST_AT_ONCE):
        yield keys[start : start + MOST_AT_ONCE]
