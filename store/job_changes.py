"""What a user may do to a job besides stopping it: rename it, move it in the queue, run it again, delete it."""

from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from abcore.specs.runs import DistillRun
from store.database import Database
from store.errors import NotDeletable, NotRetryable
from store.job_models import LogChunk
from store.jobs import NewJob, find_job, get
from store.models import ENDED, Artifact, Event, Job, Metric
from store.moves import Fence, NewEvent, change


@dataclass(frozen=True)
class Changes:
    """New values; None leaves a column as it is."""

    name: str | None = None
    labels: dict[str, str] | None = None
    priority: int | None = None


def update(db: Database, project_id: str, job_id: str, changes: Changes) -> Job:
    """Change what a job is called and how soon it is taken. A priority matters while it waits.

    Raises:
        NotFound
    """
    columns = {name: value for name, value in vars(changes).items() if value is not None}
    with db.write() as session:
        job = find_job(session, project_id, job_id, lock=True)
        told = NewEvent("job.updated", f"Its user changed: {', '.join(columns)}.", data=columns)
        return change(session, Fence.of(job), [told] if columns else [], **columns)


def again(db: Database, project_id: str, job_id: str) -> NewJob:
    """Return a new job like one that failed or was cancelled; what happened to that one stays as it is.

    Raises:
        NotFound, NotRetryable
    """
    job = get(db, project_id, job_id)
    if job.kind != "distill" or job.state not in ("failed", "cancelled"):
        raise NotRetryable(
            f"Job {job_id} is {job.state}: only a distillation that failed or was cancelled can be run again."
        )
    assert job.dataset_id is not None, "every distillation has a dataset"
    return NewJob(
        project_id=project_id,
        spec={**job.spec, "retry_of": job_id},
        run=DistillRun.model_validate(job.run),
        dataset_id=job.dataset_id,
        teacher_id=job.teacher_id,
        name=job.name,
        labels=job.labels,
        plan=job.plan,
        priority=job.priority,
        work_macs=job.work_macs,
        max_runtime_seconds=job.max_runtime_seconds,
        sweep_id=job.sweep_id,
    )


def delete_job(db: Database, project_id: str, job_id: str) -> list[str]:
    """Delete a job that has ended, with its events, figures and files.

    Returns:
        The blob keys that nothing refers to any more; the caller deletes them from the blob store.

    Raises:
        NotFound, NotDeletable
    """
    with db.write() as session:
        job = find_job(session, project_id, job_id, lock=True)
        if job.state not in ENDED:
            raise NotDeletable(f"Job {job_id} is {job.state}: cancel it first, or wait for its end.")
        return forget_job(session, job_id)


def forget_job(session: Session, job_id: str) -> list[str]:
    """Delete the rows of a job that has ended, in the caller's transaction; return its blob keys."""
    # A teacher that a job made is not the job's any more.
    mine = Artifact.job_id == job_id, Artifact.blob_key.startswith("jobs/")
    keys = list(session.scalars(select(Artifact.blob_key).where(*mine)))
    for table in (Event, Metric, LogChunk, Artifact):
        session.execute(delete(table).where(table.job_id == job_id))
    session.execute(delete(Job).where(Job.id == job_id))
    return keys
