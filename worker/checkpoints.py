"""Checkpoints leave the machine as soon as they are written: another worker may have to go on from them."""

import logging

from abcore.events import CheckpointSaved
from store import artifacts
from store.blobs import BlobStore
from store.database import Database
from store.errors import BlobError
from store.leases import Lease, NewArtifact
from worker.workspace import Workspace

_log = logging.getLogger(__name__)


def upload(
    db: Database, blobs: BlobStore, lease: Lease, workspace: Workspace, saved: CheckpointSaved
) -> None:
    """Put a checkpoint into the blob store, register it, and delete those that it supersedes.

    A child that is ahead may have removed the file by now; then a newer checkpoint follows.

    Raises:
        LeaseLost
    """
    try:
        path = workspace.own_file(saved.file)
        # The epoch is in it: a worker that lost its lease must not overwrite what its successor wrote.
        blob = blobs.put_file(f"jobs/{lease.job.id}/checkpoints/{lease.epoch}-{path.name}", path)
    except (OSError, ValueError, BlobError) as error:
        _log.warning("job %s: checkpoint %s was not kept: %s", lease.job.id, saved.file, error)
        return
    if blob.sha256 != saved.sha256:
        _log.warning("job %s: checkpoint %s is not as its writer said", lease.job.id, saved.file)
        blobs.delete(blob.key)
        return
    new = NewArtifact(
        name=f"checkpoint-{lease.epoch}-{path.name}",
        kind=artifacts.CHECKPOINT,
        media_type="application/octet-stream",
        size_bytes=blob.size,
        sha256=blob.sha256,
        blob_key=blob.key,
    )
    for key in artifacts.add_checkpoint(db, lease, new):
        blobs.delete(key)


def file_name(artifact_name: str) -> str:
    """Return the name under which the child that wrote a checkpoint will look for it."""
    return artifact_name.split("-", 2)[2]
