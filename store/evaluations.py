"""Teachers measured on datasets: each evaluation is a job of its own kind, and its id is the job's."""

from sqlalchemy import select

from abcore.specs.runs import EvaluateTeacherRun
from store import teachers
from store.cursors import Page, paginate
from store.database import Database
from store.errors import NotFound
from store.jobs import WAITING, require_ready
from store.models import Dataset, Job, Teacher
from store.moves import create_job
from store.uploads import VERIFY_PRIORITY

_KIND = "evaluate_teacher"


def create(
    db: Database, project_id: str, *, teacher_id: str, dataset_id: str, run: EvaluateTeacherRun
) -> Job:
    """Queue an evaluation; the caller rings the `Doorbell` then.

    Raises:
        NotFound, NotReady: of the teacher or the dataset.
    """
    with db.write() as session:
        require_ready(session, Teacher, "teacher", project_id, teacher_id)
        require_ready(session, Dataset, "dataset", project_id, dataset_id)
        return create_job(
            session,
            WAITING,
            project_id=project_id,
            kind=_KIND,
            labels={},
            priority=VERIFY_PRIORITY,
            spec={},
            run=run.model_dump(mode="json"),
            teacher_id=teacher_id,
            dataset_id=dataset_id,
        )


def get(db: Database, project_id: str, teacher_id: str, evaluation_id: str) -> Job:
    """Return one evaluation of a teacher.

    Raises:
        NotFound: of the teacher or the evaluation.
    """
    teachers.get(db, project_id, teacher_id)
    with db.read() as session:
        job = session.scalar(
            select(Job).where(Job.id == evaluation_id, Job.teacher_id == teacher_id, Job.kind == _KIND)
        )
    if job is None:
        raise NotFound("evaluation", evaluation_id)
    return job


def list_(
    db: Database, project_id: str, teacher_id: str, *, limit: int = 20, cursor: str | None = None
) -> Page[Job]:
    """Return a page of a teacher's evaluations, newest first.

    Raises:
        NotFound: of the teacher.
        BadCursor
    """
    teachers.get(db, project_id, teacher_id)
    rows = select(Job).where(Job.teacher_id == teacher_id, Job.kind == _KIND)
    with db.read() as session:
        return paginate(
            session,
            rows,
            (Job.created_at, Job.id),
            (float, str),
            limit=limit,
            cursor=cursor,
            descending=True,
        )
