"""Teachers: trained networks that users upload."""

from abcore.specs.architectures import ModelSpec, Normalization
from abcore.specs.runs import VerifyTeacherRun
from store.database import Database
from store.ids import new_id
from store.models import Job, Teacher
from store.uploads import Uploads


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


def _run_of(teacher: Teacher) -> VerifyTeacherRun:
    return VerifyTeacherRun(model=ModelSpec.model_validate(teacher.model))


_teachers = Uploads(Teacher, "teacher", Job.teacher_id, _run_of)
get = _teachers.get
list_ = _teachers.list_
attach_upload = _teachers.attach_upload
delete = _teachers.delete
