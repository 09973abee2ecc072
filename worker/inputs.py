"""What a child needs before it can start: `run.json`, its input files, and the checkpoint to go on from."""

import json
import logging

from store import artifacts, datasets, teachers
from store.blobs import BlobStore
from store.database import Database
from store.errors import BlobError
from store.leases import Lease
from store.models import Dataset, Teacher
from worker.cache import InputCache
from worker.checkpoints import file_name
from worker.workspace import Workspace

_log = logging.getLogger(__name__)


class InputMissing(Exception):
    """A file that the job needs is not in the blob store, or is damaged there."""


def lay_out(
    db: Database, blobs: BlobStore, cache: InputCache, lease: Lease, workspace: Workspace
) -> str | None:
    """Fill a fresh workspace for this attempt.

    Returns:
        For a verification, the blob key of the upload that it reads.

    Raises:
        InputMissing
    """
    job, upload_key = lease.job, None
    workspace.run.write_text(json.dumps(job.run))
    uploads: list[tuple[str, Teacher | Dataset]] = []
    # A job that trains a teacher is to make it, and has none to read.
    if job.teacher_id is not None and job.kind != "train_teacher":
        uploads.append(("teacher", teachers.get(db, job.project_id, job.teacher_id)))
    if job.dataset_id is not None:
        uploads.append(("dataset", datasets.get(db, job.project_id, job.dataset_id)))
    for name, row in uploads:
        try:
            if job.kind in ("distill", "train_teacher"):
                target = workspace.inputs / f"{name}.safetensors"
                cache.place(blobs, _known(row.blob_key), _known(row.sha256), target)
            else:  # read once: the cache is not for it
                upload_key = _known(row.blob_key)
                blobs.fetch(upload_key, workspace.inputs / "upload", _known(row.upload_sha256))
        except BlobError as error:
            raise InputMissing(f"the {name} {row.id} cannot be read: {error}") from error
    _fetch_newest_checkpoint(db, blobs, lease, workspace)
    return upload_key


def _fetch_newest_checkpoint(db: Database, blobs: BlobStore, lease: Lease, workspace: Workspace) -> None:
    for checkpoint in artifacts.checkpoints(db, lease):
        try:
            blobs.fetch(
                checkpoint.blob_key, workspace.checkpoints / file_name(checkpoint.name), checkpoint.sha256
            )
        except BlobError as error:
            _log.warning("job %s: checkpoint %s passed over: %s", lease.job.id, checkpoint.name, error)
        else:
            return


def _known(value: str | None) -> str:
    assert value is not None, "a job is queued only when its uploads are in the blob store"
    return value
