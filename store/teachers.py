"""Teachers: trained networks that users upload, or have trained."""

from collections.abc import Sequence

from abcore.specs.architectures import ModelSpec, Normalization
from abcore.specs.runs import CombineTeachersRun, TrainTeacherRun, VerifyTeacherRun
from store.database import Database
from store.ids import new_id
from store.jobs import WAITING, require_ready
from store.models import Dataset, Job, Json, Teacher
from store.moves import create_job
from store.uploads import VERIFY_PRIORITY, Uploads


def create(
    db: Database, project_id: str, *, name: str, model: ModelSpec, normalization: Normalization | None = None
) -> Teacher:
    """Announce a teacher; its checkpoint comes by `attach_upload`. `normalization` None: its dataset's."""
    teacher = Teacher(
        id=new_id("tch"),
        project_id=project_id,
        name=name,
        state_detail="Waiting for its content.",
        model=model.model_dump(mode="json"),
        normalization=normalization and normalization.model_dump(mode="json"),
    )
    with db.write() as session:
        session.add(teacher)
    return teacher


def train(
    db: Database,
    project_id: str,
    *,
    name: str,
    dataset_id: str,
    run: TrainTeacherRun,
    spec: Json,
    plan: Json,
    work_macs: float,
) -> Teacher:
    """Announce a teacher and queue the job that trains it; the caller rings the `Doorbell` then.

    Raises:
        NotFound, NotReady: of the dataset.
    """
    with db.write() as session:
        require_ready(session, Dataset, "dataset", project_id, dataset_id)
        teacher = Teacher(
            id=new_id("tch"),
            project_id=project_id,
            name=name,
            state_detail="Waiting for its training.",
            model=run.model.model_dump(mode="json"),
            normalization=run.normalization.model_dump(mode="json"),
        )
        session.add(teacher)
        session.flush()
        job = create_job(
            session,
            WAITING,
            project_id=project_id,
            kind=run.task,
            name=name,
            labels={},
            spec=spec,
            run=run.model_dump(mode="json"),
            plan=plan,
            work_macs=work_macs,
            teacher_id=teacher.id,
            dataset_id=dataset_id,
        )
        teacher.training_job_id = job.id
    return teacher


def combine(
    db: Database,
    project_id: str,
    *,
    name: str,
    members: Sequence[str],
    run: CombineTeachersRun,
    normalization: Normalization | None,
) -> Teacher:
    """Announce an ensemble of teachers and queue the job that makes it; the caller rings the `Doorbell` then.

    Raises:
        NotFound, NotReady: of a member.
    """
    with db.write() as session:
        for member in members:
            require_ready(session, Teacher, "teacher", project_id, member)
        teacher = Teacher(
            id=new_id("tch"),
            project_id=project_id,
            name=name,
            state_detail="Waiting for its members to be combined.",
            model=run.model.model_dump(mode="json"),
            normalization=normalization and normalization.model_dump(mode="json"),
        )
        session.add(teacher)
        session.flush()
        job = create_job(
            session,
            WAITING,
            project_id=project_id,
            kind=run.task,
            labels={},
            priority=VERIFY_PRIORITY,
            spec={"members": list(members)},
            run=run.model_dump(mode="json"),
            teacher_id=teacher.id,
        )
        teacher.training_job_id = job.id
    return teacher


def _run_of(teacher: Teacher) -> VerifyTeacherRun:
    return VerifyTeacherRun(model=ModelSpec.model_validate(teacher.model))


_teachers = Uploads(Teacher, "teacher", Job.teacher_id, _run_of)
get = _teachers.get
list_ = _teachers.list_
attach_upload = _teachers.attach_upload
attach_parts = _teachers.attach_parts
attach_source = _teachers.attach_source
delete = _teachers.delete
