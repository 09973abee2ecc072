"""Uploads in parts: each part is taken once, in any order, until the whole is there and its sha256 is right."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, delete, exists, or_, select, update
from sqlalchemy.orm import Session

from store.blobs import Blob
from store.columns import unix_now
from store.cursors import Page, paginate
from store.database import Database
from store.errors import InUse, NotFound, PartMissing, UnknownUpload, UploadComplete, UploadOpen
from store.ids import new_id
from store.models import Dataset, Teacher
from store.quotas import require_room
from store.upload_models import PartUpload, UploadPart

MOST_EXPIRED_AT_ONCE = 20


class Taken(NamedTuple):
    """A part that counts, and the blob that does not count any more, if there is one: the caller deletes that."""

    part: UploadPart
    superseded: str | None


def create(
    db: Database,
    project_id: str,
    *,
    size_bytes: int,
    part_bytes: int,
    sha256: str | None,
    keep_seconds: float,
) -> tuple[PartUpload, bool]:
    """Return an upload to send parts to, and whether it is new.

    Where the sha256 is given and the project has an upload of that content, complete or begun, it is that one: what
    has arrived need not be sent again.

    Raises:
        StorageFull: a new one would not fit in.
    """
    with db.write() as session:
        found = None if sha256 is None else _of_content(session, project_id, sha256, size_bytes)
        if found is None:
            require_room(session, project_id, size_bytes)
        upload = found or PartUpload(
            id=new_id("up"),
            project_id=project_id,
            size_bytes=size_bytes,
            part_bytes=part_bytes,
            sha256=sha256,
        )
        _touch(upload, keep_seconds)
        session.add(upload)
        session.flush()
        session.refresh(upload)
        return upload, found is None


def get(db: Database, project_id: str, upload_id: str) -> PartUpload:
    """Return one.

    Raises:
        NotFound
    """
    with db.read() as session:
        return _find(session, project_id, upload_id)


def list_(db: Database, project_id: str, *, limit: int = 20, cursor: str | None = None) -> Page[PartUpload]:
    """Return a page of them, newest first.

    Raises:
        BadCursor
    """
    row = PartUpload
    with db.read() as session:
        return paginate(
            session,
            select(row).where(row.project_id == project_id),
            (row.created_at, row.id),
            (float, str),
            limit=limit,
            cursor=cursor,
            descending=True,
        )


def find_content(db: Database, project_id: str, sha256: str) -> PartUpload | None:
    """Return a complete upload of this content, if the project has one."""
    with db.read() as session:
        return session.scalar(
            select(PartUpload)
            .where(
                PartUpload.project_id == project_id,
                PartUpload.sha256 == sha256,
                PartUpload.state == "complete",
            )
            .limit(1)
        )


def parts(db: Database, upload_id: str) -> Sequence[UploadPart]:
    """Return the parts that have arrived, by number."""
    with db.read() as session:
        return _parts(session, upload_id)


def find_part(db: Database, upload_id: str, number: int, sha256: str) -> UploadPart | None:
    """Return a part, if it has arrived with this content."""
    with db.read() as session:
        part = session.get(UploadPart, (upload_id, number))
    return part if part is not None and part.sha256 == sha256 else None


def add_part(
    db: Database, project_id: str, upload_id: str, number: int, blob: Blob, keep_seconds: float
) -> Taken:
    """Say that a part is in the blob store. The same content again changes nothing; other content replaces it.

    Raises:
        NotFound
        UploadComplete: the content cannot change any more.
        StorageFull
    """
    with db.write() as session:
        upload = _find(session, project_id, upload_id, lock=True)
        part = session.get(UploadPart, (upload_id, number))
        if part is not None and part.sha256 == blob.sha256:
            return Taken(part, blob.key)
        if upload.state != "open":
            raise UploadComplete(f"The upload {upload_id} is complete: create a new one for other content.")
        require_room(session, project_id, blob.size)
        superseded = None
        if part is None:
            part = UploadPart(upload_id=upload_id, number=number)
        else:
            superseded = part.blob_key
        part.size_bytes, part.sha256, part.blob_key = blob.size, blob.sha256, blob.key
        _touch(upload, keep_seconds)
        session.add(part)
        session.flush()
        session.refresh(part)
        return Taken(part, superseded)


def complete(
    db: Database, project_id: str, upload_id: str, sha256: str, hashed: Sequence[str], keep_seconds: float
) -> PartUpload:
    """Say that the parts whose blob keys are `hashed`, one after the other, have this sha256.

    Raises:
        NotFound
        PartMissing: they are not all parts, or one was replaced meanwhile.
    """
    with db.write() as session:
        upload = _find(session, project_id, upload_id, lock=True)
        if upload.state == "open":
            if [part.blob_key for part in _parts(session, upload_id)] != list(hashed):
                raise PartMissing(f"A part of {upload_id} was replaced meanwhile: complete it again.")
            upload.state, upload.sha256 = "complete", sha256
            _touch(upload, keep_seconds)
            session.flush()
            session.refresh(upload)
        return upload


def take(session: Session, project_id: str, upload_id: str, keep_seconds: float) -> PartUpload:
    """Return a complete upload, locked, for a teacher or a dataset that shall be made of it.

    Raises:
        UnknownUpload, UploadOpen
    """
    try:
        upload = _find(session, project_id, upload_id, lock=True)
    except NotFound as error:
        raise UnknownUpload(upload_id) from error
    if upload.state != "complete":
        raise UploadOpen(f"The upload {upload_id} is not complete: send its parts, then complete it.")
    _touch(upload, keep_seconds)
    return upload


def remove(db: Database, project_id: str, upload_id: str) -> list[str]:
    """Forget an upload, and return the keys of its blobs, which the caller deletes then.

    Raises:
        NotFound
        InUse: a teacher or a dataset that is made of it is not verified yet.
    """
    with db.write() as session:
        upload = _find(session, project_id, upload_id, lock=True)
        if session.scalar(select(_in_use()).where(PartUpload.id == upload.id)):
            raise InUse(
                f"A teacher or dataset that is made of {upload_id} is being verified: wait for its end."
            )
        return _forget(session, upload)


def expire(db: Database) -> list[str]:
    """Forget uploads that nobody has used for too long, some at a time; return the keys of their blobs."""
    with db.write() as session:
        due = session.scalars(
            select(PartUpload)
            .where(PartUpload.expires_at < unix_now(), ~_in_use())
            .order_by(PartUpload.expires_at)
            .limit(MOST_EXPIRED_AT_ONCE)
            .with_for_update(skip_locked=True)
        ).all()
        return [key for upload in due for key in _forget(session, upload)]


def _touch(upload: PartUpload, keep_seconds: float) -> None:
    upload.updated_at = unix_now()
    upload.expires_at = unix_now() + keep_seconds


def _in_use() -> ColumnElement[bool]:
    """Whether the content is still to be read for somebody."""
    return or_(
        *(
            exists().where(
                kind.upload_id == PartUpload.id, kind.state == "pending", kind.deleted_at.is_(None)
            )
            for kind in (Teacher, Dataset)
        )
    )


def _forget(session: Session, upload: PartUpload) -> list[str]:
    keys = [part.blob_key for part in _parts(session, upload.id)]
    for kind in (Teacher, Dataset):
        session.execute(
            update(kind)
            .where(kind.upload_id == upload.id)
            .values(upload_id=None)
            .execution_options(synchronize_session=False)
        )
    session.execute(delete(UploadPart).where(UploadPart.upload_id == upload.id))
    session.delete(upload)
    return keys


def _parts(session: Session, upload_id: str) -> Sequence[UploadPart]:
    rows = select(UploadPart).where(UploadPart.upload_id == upload_id)
    return session.scalars(rows.order_by(UploadPart.number)).all()


def _of_content(session: Session, project_id: str, sha256: str, size_bytes: int) -> PartUpload | None:
    mine = (
        PartUpload.project_id == project_id,
        PartUpload.sha256 == sha256,
        PartUpload.size_bytes == size_bytes,
    )
    rows = (
        select(PartUpload).where(*mine).order_by(PartUpload.state, PartUpload.created_at)
    )  # complete ones first
    return session.scalar(rows.limit(1).with_for_update())


def _find(session: Session, project_id: str, upload_id: str, *, lock: bool = False) -> PartUpload:
    query = select(PartUpload).where(PartUpload.id == upload_id, PartUpload.project_id == project_id)
    found = session.scalar(query.with_for_update(key_share=True) if lock else query)
    if found is None:
        raise NotFound("upload", upload_id)
    return found
