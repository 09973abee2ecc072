"""Files that jobs leave: their outputs by `leases.finish`, checkpoints while they run."""

from collections.abc import Sequence

from sqlalchemy import or_, select

from store.database import Database
from store.errors import NotFound
from store.jobs import find_job
from store.leases import Lease, NewArtifact, add_artifacts
from store.models import Artifact
from store.moves import change

CHECKPOINT = "checkpoint"


def list_(db: Database, project_id: str, job_id: str) -> list[Artifact]:
    """Return all files of a job, by attempt and name.

    Raises:
        NotFound
    """
    with db.read() as session:
        find_job(session, project_id, job_id)
        rows = select(Artifact).where(Artifact.job_id == job_id)
        return list(session.scalars(rows.order_by(Artifact.lease_epoch, Artifact.name)))


def of_jobs(db: Database, job_ids: Sequence[str]) -> dict[str, list[Artifact]]:
    """Return the files of several jobs, by the job's id."""
    found: dict[str, list[Artifact]] = {}
    with db.read() as session:
        rows = select(Artifact).where(Artifact.job_id.in_(job_ids)).order_by(Artifact.name)
        for artifact in session.scalars(rows):
            found.setdefault(artifact.job_id, []).append(artifact)
    return found


def get(db: Database, project_id: str, job_id: str, artifact: str) -> Artifact:
    """Return one file of a job, by its id or its name.

    Raises:
        NotFound: of the job or the file.
    """
    with db.read() as session:
        find_job(session, project_id, job_id)
        row = session.scalar(
            select(Artifact).where(
                Artifact.job_id == job_id, or_(Artifact.id == artifact, Artifact.name == artifact)
            )
        )
    if row is None:
        raise NotFound(f"artifact of job {job_id},", artifact)
    return row


def add(db: Database, lease: Lease, new: NewArtifact) -> None:
    """Register a file that is in the blob store, whatever becomes of the attempt that left it: its log.

    Raises:
        LeaseLost
    """
    with db.write() as session:
        change(session, lease.fence, [])
        add_artifacts(session, lease, [new])


def add_checkpoint(db: Database, lease: Lease, new: NewArtifact, keep: int = 2) -> Sequence[str]:
    """Register a checkpoint that is in the blob store, forget all but the newest `keep` of the job.

    Returns:
        The blob keys that nothing refers to any more; the caller deletes them from the blob store.

    Raises:
        LeaseLost
    """
    with db.write() as session:
        change(session, lease.fence, [])
        mine = Artifact.job_id == lease.job.id
        add_artifacts(session, lease, [new])
        newest_first = (
            select(Artifact)
            .where(mine, Artifact.kind == CHECKPOINT)
            .order_by(Artifact.created_at.desc(), Artifact.id.desc())
        )
        dropped = session.scalars(newest_first.offset(keep)).all()
        for artifact in dropped:
            session.delete(artifact)
        return [artifact.blob_key for artifact in dropped]


def checkpoints(db: Database, lease: Lease) -> list[Artifact]:
    """Return the job's checkpoints, newest first: an attempt goes on from the first that it can read."""
    with db.read() as session:
        rows = select(Artifact).where(Artifact.job_id == lease.job.id, Artifact.kind == CHECKPOINT)
        return list(session.scalars(rows.order_by(Artifact.created_at.desc(), Artifact.id.desc())))
