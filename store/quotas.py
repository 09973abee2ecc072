"""What a project has of what its operator lets it have, and the refusal where it asks for more.

Verifications of uploads count neither as running nor as waiting: they take seconds, and what they may verify is bounded
by the bytes. What a running job leaves is counted and never refused: what was accepted is not lost for want of room.
"""

from typing import Literal, NamedTuple, get_args

from sqlalchemy import ColumnElement, Select, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from store.columns import unix_now
from store.database import Database
from store.errors import NotFound, QueueFull, StorageFull
from store.models import Artifact, Dataset, Job, JobKind, JobState, Project, Teacher
from store.upload_models import PartUpload, UploadPart

QuotaName = Literal["stored_bytes", "running_jobs", "queued_jobs"]
QUOTAS: tuple[QuotaName, ...] = get_args(QuotaName)
UNCOUNTED: tuple[JobKind, ...] = ("verify_teacher", "verify_dataset")
WAITING: tuple[JobState, ...] = ("queued", "paused")
_LIMITS: dict[QuotaName, InstrumentedAttribute[int | None]] = {
    "stored_bytes": Project.max_stored_bytes,
    "running_jobs": Project.max_running_jobs,
    "queued_jobs": Project.max_queued_jobs,
}


class Use(NamedTuple):
    """How much of a quota is used. `limit` None: as much as it likes."""

    used: int
    limit: int | None

    @property
    def is_full(self) -> bool:
        """Whether nothing more fits in."""
        return self.limit is not None and self.used >= self.limit


def usage(db: Database, project_id: str) -> dict[QuotaName, Use]:
    """Return what a project has of everything that can be limited.

    Raises:
        NotFound: no such project.
    """
    with db.read() as session:
        if session.get(Project, project_id) is None:
            raise NotFound("project", project_id)
        return {name: _use(session, project_id, name) for name in QUOTAS}


def set_limits(db: Database, project_id: str, limits: dict[QuotaName, int | None]) -> None:
    """Give a project other limits, of those quotas that are named; None: none. What it has above them it keeps.

    Raises:
        NotFound: no such project.
    """
    with db.write() as session:
        project = session.get(Project, project_id, with_for_update=True)
        if project is None:
            raise NotFound("project", project_id)
        for name, limit in limits.items():
            setattr(project, _LIMITS[name].key, limit)


def look_for_room(db: Database, project_id: str, more: int) -> None:
    """Refuse before they are sent what `require_room` would refuse when they are there.

    Raises:
        StorageFull
    """
    with db.read() as session:
        _check_room(_use(session, project_id, "stored_bytes"), more)


def require_room(session: Session, project_id: str, more: int) -> None:
    """Refuse where `more` bytes would be more than the project may store.

    Raises:
        StorageFull
    """
    if _limit(session, project_id, "stored_bytes") is not None:
        _check_room(_locked_use(session, project_id, "stored_bytes"), more)


def require_place(session: Session, project_id: str) -> None:
    """Refuse where one job more would be more than may wait, or its results would find no room.

    Raises:
        QueueFull, StorageFull
    """
    if _limit(session, project_id, "queued_jobs") is not None:
        use = _locked_use(session, project_id, "queued_jobs")
        if use.limit is not None and use.used >= use.limit:
            raise QueueFull(
                f"Of the project's jobs {use.used:,} wait or are paused, and {use.limit:,} may (quota queued_jobs).",
                use.used,
                use.limit,
            )
    if _limit(session, project_id, "stored_bytes") is not None:
        _check_room(_use(session, project_id, "stored_bytes"), 1)


def claimable() -> list[ColumnElement[bool]]:
    """Conditions on a job that may run now: its time has come, and its project may have one more running."""
    other = aliased(Job)
    running = (
        select(func.count())
        .select_from(other)
        .where(other.project_id == Project.id, other.state == "running", other.kind.not_in(UNCOUNTED))
    )
    full = select(Project.id).where(
        Project.max_running_jobs.is_not(None), Project.max_running_jobs <= running.scalar_subquery()
    )
    return [
        Job.state == "queued",
        or_(Job.not_before.is_(None), Job.not_before <= unix_now()),
        or_(Job.kind.in_(UNCOUNTED), Job.project_id.not_in(full)),
    ]


def may_run_one_more(session: Session, job: Job) -> bool:
    """Whether a job that was found claimable still is, with its project locked: two workers may have found two."""
    if job.kind in UNCOUNTED or _limit(session, job.project_id, "running_jobs") is None:
        return True
    return not _locked_use(session, job.project_id, "running_jobs").is_full


def held_back(session: Session, job: Job) -> Use | None:
    """Return the use of running jobs that keeps a job from running, whatever workers there are; else None."""
    if job.kind in UNCOUNTED:
        return None
    use = _use(session, job.project_id, "running_jobs")
    return use if use.is_full else None


def _check_room(use: Use, more: int) -> None:
    if use.limit is not None and use.used + more > use.limit:
        raise StorageFull(
            f"The project stores {use.used:,} bytes and may store {use.limit:,} (quota stored_bytes): there is no room "
            f"for {more:,} more.",
            use.used,
            use.limit,
        )


def _limit(session: Session, project_id: str, name: QuotaName) -> int | None:
    return session.scalar(select(_LIMITS[name]).where(Project.id == project_id))


def _locked_use(session: Session, project_id: str, name: QuotaName) -> Use:
    # Two transactions must not both find the last free place.
    session.execute(select(Project.id).where(Project.id == project_id).with_for_update(key_share=True))
    return _use(session, project_id, name)


def _use(session: Session, project_id: str, name: QuotaName) -> Use:
    match name:
        case "stored_bytes":
            used = sum(session.scalar(counted) or 0 for counted in _stored(project_id))
        case "running_jobs":
            used = _count(session, project_id, ("running",))
        case "queued_jobs":
            used = _count(session, project_id, WAITING)
    return Use(used, _limit(session, project_id, name))


def _count(session: Session, project_id: str, states: tuple[JobState, ...]) -> int:
    counted = select(func.count()).where(
        Job.project_id == project_id, Job.kind.not_in(UNCOUNTED), Job.state.in_(states)
    )
    return session.scalar(counted) or 0


def _stored(project_id: str) -> tuple[Select[int], ...]:
    """Bytes of teachers and datasets that were not deleted, of parts that have arrived, and of what jobs left."""
    uploads = (
        select(func.sum(func.coalesce(row.size_bytes, row.upload_bytes))).where(
            row.project_id == project_id, row.deleted_at.is_(None), row.blob_key.is_not(None)
        )
        for row in (Teacher, Dataset)
    )
    left = (
        select(func.sum(Artifact.size_bytes))
        .join(Job, Job.id == Artifact.job_id)
        .where(Job.project_id == project_id, Artifact.kind.not_in(("teacher", "dataset")))
    )
    parts = (
        select(func.sum(UploadPart.size_bytes)).join(PartUpload).where(PartUpload.project_id == project_id)
    )
    return (*uploads, parts, left)
