"""What teachers and datasets have in common: content comes in, a job verifies it, distillations use it."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from sqlalchemy import Select, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from abcore.specs.runs import VerifyDatasetRun, VerifyTeacherRun
from store import part_uploads
from store.columns import unix_now
from store.cursors import Page, paginate
from store.database import Database
from store.errors import AlreadyUploaded, InUse, NotFound
from store.models import ENDED, Dataset, Job, Teacher
from store.moves import NEXT, Fence, NewEvent, change, create_job, move
from store.quotas import require_room

Row = TypeVar("Row", Teacher, Dataset)
VERIFY_PRIORITY = 100  # a short job that others wait for goes before a long one


class Uploads(Generic[Row]):
    """The operations on one of the two kinds. `run_of` says what shall be verified about a row."""

    def __init__(
        self,
        row: type[Row],
        kind: str,
        in_job: InstrumentedAttribute[str | None],
        run_of: Callable[[Row], VerifyTeacherRun | VerifyDatasetRun],
    ) -> None:
        self._row: type[Row] = row
        self._kind = kind
        self._in_job = in_job
        self._run_of: Callable[[Row], VerifyTeacherRun | VerifyDatasetRun] = run_of
        self._makers = (f"verify_{kind}", f"train_{kind}", f"combine_{kind}s")

    def get(self, db: Database, project_id: str, id_: str) -> Row:
        """Return one that was not deleted.

        Raises:
            NotFound
        """
        with db.read() as session:
            return self._find(session, project_id, id_)

    def list_(
        self, db: Database, project_id: str, *, limit: int = 20, cursor: str | None = None
    ) -> Page[Row]:
        """Return a page of those that were not deleted, newest first.

        Raises:
            BadCursor
        """
        row = self._row
        rows = select(row).where(row.project_id == project_id, row.deleted_at.is_(None))
        with db.read() as session:
            return paginate(
                session,
                rows,
                (row.created_at, row.id),
                (float, str),
                limit=limit,
                cursor=cursor,
                descending=True,
            )

    def attach_upload(
        self, db: Database, project_id: str, id_: str, blob_key: str, sha256: str, size_bytes: int
    ) -> Row:
        """Say that the content is in the blob store, and queue its verification; the caller rings the `Doorbell` then.

        The same content sent twice is accepted twice; the answer's `blob_key` then is the first one's, and the
        caller deletes the second blob.

        Raises:
            NotFound
            AlreadyUploaded: other content came before.
            StorageFull
        """
        with db.write() as session:
            row = self._find(session, project_id, id_, lock=True)
            if row.upload_sha256 != sha256:
                self._require_empty(row)
                require_room(session, project_id, size_bytes)
                row.blob_key, row.upload_sha256, row.upload_bytes = blob_key, sha256, size_bytes
                self._verify(session, row)
            return row

    def attach_parts(
        self, db: Database, project_id: str, id_: str, upload_id: str, keep_seconds: float
    ) -> Row:
        """Say that the content is a complete upload in parts, as `attach_upload`.

        Raises:
            NotFound, UnknownUpload, UploadOpen
            AlreadyUploaded: other content came before.
            StorageFull
        """
        with db.write() as session:
            row = self._find(session, project_id, id_, lock=True)
            upload = part_uploads.take(session, project_id, upload_id, keep_seconds)
            if row.upload_sha256 != upload.sha256:
                self._require_empty(row)
                require_room(session, project_id, upload.size_bytes)  # the verified file is stored besides it
                row.upload_id, row.upload_sha256, row.upload_bytes = (
                    upload.id,
                    upload.sha256,
                    upload.size_bytes,
                )
                self._verify(session, row)
            return row

    def attach_source(self, db: Database, project_id: str, id_: str, source: str) -> Row:
        """Say that the content is to be read at an address that `Places` allow, as `attach_upload`.

        Raises:
            NotFound
            AlreadyUploaded: other content came before.
            StorageFull
        """
        with db.write() as session:
            row = self._find(session, project_id, id_, lock=True)
            if row.source != source:
                self._require_empty(row)
                require_room(session, project_id, 1)  # how large it is, the worker finds
                row.source = source
                self._verify(session, row)
            return row

    def delete(self, db: Database, project_id: str, id_: str) -> Row:
        """Forget it; the job that verifies or trains it is cancelled. The caller deletes its blobs after this.

        Raises:
            NotFound
            InUse: another job that has not ended needs it.
        """
        with db.write() as session:
            # Jobs are locked before the upload's row, as where a verification ends: never crosswise.
            for job in session.scalars(
                self._unended(id_).where(Job.kind.in_(self._makers)).with_for_update(key_share=True)
            ):
                _cancel(session, job)
            row = self._find(session, project_id, id_, lock=True)
            user = session.scalar(
                self._unended(id_).where(Job.stop_requested.is_distinct_from("cancel")).limit(1)
            )
            if user is not None:
                raise InUse(
                    f"Job {user.id} ({user.state}) uses the {self._kind} {id_}: cancel it, or wait for its end."
                )
            row.deleted_at = row.updated_at = unix_now()
            session.flush()
            session.refresh(row)
            return row

    def _require_empty(self, row: Teacher | Dataset) -> None:
        if isinstance(row, Teacher) and row.training_job_id is not None:
            raise AlreadyUploaded(
                f"The teacher {row.id} is made here, by job {row.training_job_id}: create a new teacher for a "
                "checkpoint."
            )
        if row.source is not None:
            raise AlreadyUploaded(
                f"The {self._kind} {row.id} is imported from {row.source}: create a new {self._kind} for other "
                "content."
            )
        if row.upload_sha256 is not None:
            raise AlreadyUploaded(
                f"The {self._kind} {row.id} has content already (sha256 {row.upload_sha256}): create a new "
                f"{self._kind} for other content."
            )

    def _verify(self, session: Session, row: Row) -> None:
        """Queue the verification of content that has just come."""
        row.state_detail = "Waiting for verification."
        row.updated_at = unix_now()
        run: dict[str, Any] = self._run_of(row).model_dump(mode="json")
        create_job(
            session,
            f"Waiting for a worker to verify the {self._kind}.",
            project_id=row.project_id,
            kind=run["task"],
            labels={},
            priority=VERIFY_PRIORITY,
            spec={},
            run=run,
            **{self._in_job.key: row.id},
        )
        session.refresh(row)

    def _unended(self, id_: str) -> Select[Job]:
        return select(Job).where(self._in_job == id_, Job.state.not_in(ENDED))

    def _find(self, session: Session, project_id: str, id_: str, *, lock: bool = False) -> Row:
        row = self._row
        query = select(row).where(row.id == id_, row.project_id == project_id, row.deleted_at.is_(None))
        found = session.scalar(query.with_for_update(key_share=True) if lock else query)
        if found is None:
            raise NotFound(self._kind, id_)
        return found


def _cancel(session: Session, job: Job) -> None:
    reason = "What it was to make was deleted."
    if "cancelled" in NEXT[job.state] and job.state != "running":
        move(session, Fence.of(job), "cancelled", [NewEvent("job.cancelled", reason)], state_reason=reason)
    else:
        change(session, Fence.of(job), [NewEvent("job.cancel_requested", reason)], stop_requested="cancel")
