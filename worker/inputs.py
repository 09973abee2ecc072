"""What a child needs before it can start: `run.json`, its input files, and the checkpoint to go on from."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

from abcore.specs.refusals import Refusal
from store import artifacts, datasets, leases, part_uploads, teachers
from store.blobs import BlobStore, fetch_joined
from store.database import Database
from store.errors import BlobError, BlobsUnusable, StorageFull
from store.leases import Lease
from store.models import Dataset, Job, Teacher
from worker.checkpoints import file_name
from worker.workshop import Workshop
from worker.workspace import Workspace

_log = logging.getLogger(__name__)


class InputMissing(Exception):
    """A file that the job needs is not in the blob store, or is damaged there."""


def lay_out(shop: Workshop, lease: Lease, workspace: Workspace) -> str | None:
    """Fill a fresh workspace for this attempt.

    Returns:
        For a verification, the blob key of the upload that it reads and nobody needs then; None where others may.

    Raises:
        InputMissing
        BlobsUnusable
        Refusal: what is to be imported cannot be.
    """
    db, blobs = shop.db, shop.blobs
    job, upload_key = lease.job, None
    workspace.run.write_text(json.dumps(job.run))
    for name, row in _inputs(db, job):
        try:
            if name == "upload" and row.source is not None:
                _import(shop, lease, row, workspace.inputs / name)
            elif name == "upload" and row.upload_id is not None:
                keys = [part.blob_key for part in part_uploads.parts(db, row.upload_id)]
                fetch_joined(blobs, keys, workspace.inputs / name, _known(row.upload_sha256))
            elif name == "upload":  # read once: the cache is not for it
                upload_key = _known(row.blob_key)
                blobs.fetch(upload_key, workspace.inputs / name, _known(row.upload_sha256))
            else:
                target = workspace.inputs / f"{name}.safetensors"
                shop.cache.place(blobs, _known(row.blob_key), _known(row.sha256), target)
        except BlobsUnusable:
            raise
        except BlobError as error:
            raise InputMissing(f"{row.id} cannot be read: {error}") from error
    _fetch_newest_checkpoint(db, blobs, lease, workspace)
    return upload_key


def _inputs(db: Database, job: Job) -> Iterator[tuple[str, Teacher | Dataset]]:
    """What a job reads, by the name that it has in the workspace. A teacher that the job is to make is not among it."""
    project = job.project_id
    match job.kind:
        case "verify_teacher":
            yield "upload", teachers.get(db, project, _known(job.teacher_id))
        case "verify_dataset":
            yield "upload", datasets.get(db, project, _known(job.dataset_id))
        case "combine_teachers":
            for index, member in enumerate(job.spec["members"]):
                yield f"member-{index}", teachers.get(db, project, member)
        case "train_teacher" | "evaluate_teacher" | "distill":
            if job.kind != "train_teacher" and job.teacher_id is not None:
                yield "teacher", teachers.get(db, project, job.teacher_id)
            yield "dataset", datasets.get(db, project, _known(job.dataset_id))


def _import(shop: Workshop, lease: Lease, row: Teacher | Dataset, path: Path) -> None:
    content = shop.places.fetch(_known(row.source), path, shop.settings.max_upload_bytes)
    try:
        leases.record_content(shop.db, lease, row, content.sha256, content.size)
    except StorageFull as error:
        raise Refusal(
            "quota.stored_bytes", str(error), value=error.used, allowed=(f"<= {error.limit}",)
        ) from error


def _fetch_newest_checkpoint(db: Database, blobs: BlobStore, lease: Lease, workspace: Workspace) -> None:
    for checkpoint in artifacts.checkpoints(db, lease):
        try:
            blobs.fetch(
                checkpoint.blob_key, workspace.checkpoints / file_name(checkpoint.name), checkpoint.sha256
            )
        except BlobsUnusable:  # the checkpoint is there: without it what was trained would be trained again
            raise
        except BlobError as error:
            _log.warning("job %s: checkpoint %s passed over: %s", lease.job.id, checkpoint.name, error)
        else:
            return


def _known(value: str | None) -> str:
    assert value is not None, "a job is queued only when what it reads is in the blob store"
    return value
