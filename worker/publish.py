"""What an attempt leaves behind: its outputs, checked, and its log, bounded."""

import os

from abcore.specs.runs import RunResult
from store.blobs import Blob, BlobStore
from store.errors import BlobError, BlobsUnusable
from store.leases import Lease, NewArtifact
from worker.secrets import masked
from worker.workspace import Workspace

LOG_BYTES = 2**20
TAIL_LINES = 40
TAIL_BYTES = 16 * 2**10


class BadResult(Exception):
    """The child says that it is done, but what it left is not what it says."""


def read_result(workspace: Workspace) -> RunResult:
    """Return what the child says it has made.

    Raises:
        BadResult
    """
    try:
        return RunResult.model_validate_json(workspace.own_file("outputs/result.json").read_bytes())
    except (OSError, ValueError) as error:
        raise BadResult(f"outputs/result.json is missing or cannot be read: {error}") from error


def publish(blobs: BlobStore, lease: Lease, workspace: Workspace, result: RunResult) -> list[NewArtifact]:
    """Put the outputs into the blob store, under this attempt's epoch, and hold them against their sizes and sums.

    Raises:
        BadResult: nothing of it counts.
        BlobsUnusable: it may be tried again.
    """
    published = []
    for file in result.files:
        try:
            path = workspace.own_file(f"outputs/{file.name}")
            blob = blobs.put_file(_key(lease, file.name, file.kind), path)
        except BlobsUnusable:
            raise
        except (ValueError, BlobError) as error:
            raise BadResult(str(error)) from error
        if (blob.sha256, blob.size) != (file.sha256, file.size_bytes):
            raise BadResult(
                f"outputs/{file.name} has {blob.size} bytes and sha256 {blob.sha256}, but the child said "
                f"{file.size_bytes} and {file.sha256}"
            )
        published.append(_artifact(file.name, file.kind, file.media_type, blob))
    return published


def publish_log(blobs: BlobStore, lease: Lease, workspace: Workspace) -> NewArtifact | None:
    """Put the log's last MiB into the blob store; None where the child never wrote one."""
    log = _end_of_log(workspace, LOG_BYTES)
    if log is None:
        return None
    name = f"log-{lease.epoch}.txt"
    bounded = workspace.root / name
    bounded.unlink(missing_ok=True)  # nor is the child to say where this is written
    bounded.write_bytes(log)
    blob = blobs.put_file(_key(lease, name, "log"), bounded)
    return _artifact(name, "log", "text/plain; charset=utf-8", blob)


def log_tail(workspace: Workspace) -> str:
    """Return the last lines of the child's log."""
    lines = (_end_of_log(workspace, TAIL_BYTES) or b"").decode(errors="replace").splitlines()
    return "\n".join(lines[-TAIL_LINES:])


def _end_of_log(workspace: Workspace, num_bytes: int) -> bytes | None:
    """The last bytes of the log, from the beginning of a line where it was cut; None where there is none."""
    file = workspace.open_log()
    if file is None:
        return None
    with file:
        start = max(0, file.seek(0, os.SEEK_END) - num_bytes)
        file.seek(start)
        content = file.read(num_bytes)
    return masked(content.partition(b"\n")[2] or content if start else content)


def _key(lease: Lease, name: str, kind: str) -> str:
    job = lease.job
    if kind == "teacher" and job.kind in ("train_teacher", "combine_teachers"):
        # By attempt: one that has lost its lease may still write, and two machines may differ in the last bits.
        return f"teachers/{job.teacher_id}/{lease.epoch}/{name}"
    if job.kind == "verify_teacher" and kind == "teacher":
        return f"teachers/{job.teacher_id}/{name}"
    if job.kind == "verify_dataset" and kind == "dataset":
        return f"datasets/{job.dataset_id}/{name}"
    return f"jobs/{job.id}/{lease.epoch}/{name}"


def _artifact(name: str, kind: str, media_type: str, blob: Blob) -> NewArtifact:
    return NewArtifact(name, kind, media_type, blob.size, blob.sha256, blob.key)
