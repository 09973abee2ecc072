"""`/v1/teachers/{id}/evaluations`: how good a teacher is on datasets."""

from fastapi import APIRouter, Response

from abcore.specs.architectures import ModelSpec, Normalization
from abcore.specs.reports import DatasetReport
from abcore.specs.runs import EvaluateTeacherRun
from api.auth import Reader, Submitter
from api.context import Context, ContextDep
from api.documentation import refusals
from api.paging import Cursor, Limit
from api.problems import Refused
from api.schemas.evaluations import Evaluation, EvaluationCreate, EvaluationPage
from api.submission import class_mismatch, image_mismatch, ready_dataset, ready_teacher
from store import evaluations, teachers

router = APIRouter(prefix="/v1/teachers/{teacher_id}/evaluations", tags=["teachers"])


@router.post(
    "",
    status_code=202,
    operation_id="create_teacher_evaluation",
    responses=refusals(404, 409, 413, 415, 507),
)
def create(
    teacher_id: str, body: EvaluationCreate, context: ContextDep, caller: Submitter, response: Response
) -> Evaluation:
    """Have a teacher measured on the held-out splits of a dataset of its classes.

    A `teacher.at_chance` among its warnings says at once what a distillation would show an hour later.
    """
    run = _prepare(context, caller.project_id, teacher_id, body)
    job = evaluations.create(
        context.db, caller.project_id, teacher_id=teacher_id, dataset_id=body.dataset, run=run
    )
    context.doorbell.ring()
    response.headers["Location"] = f"/v1/teachers/{teacher_id}/evaluations/{job.id}"
    return Evaluation.of(job)


@router.get("", operation_id="list_teacher_evaluations", responses=refusals(404))
def list_(
    teacher_id: str,
    context: ContextDep,
    caller: Reader,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> EvaluationPage:
    """List a teacher's evaluations, newest first."""
    page = evaluations.list_(context.db, caller.project_id, teacher_id, limit=limit, cursor=cursor)
    return EvaluationPage(
        data=[Evaluation.of(job) for job in page.items],
        has_more=page.next_cursor is not None,
        next_cursor=page.next_cursor,
    )


@router.get("/{evaluation_id}", operation_id="get_teacher_evaluation", responses=refusals(404))
def get(teacher_id: str, evaluation_id: str, context: ContextDep, caller: Reader) -> Evaluation:
    """Show an evaluation, with its accuracy once it has succeeded."""
    return Evaluation.of(evaluations.get(context.db, caller.project_id, teacher_id, evaluation_id))


def _prepare(
    context: Context, project_id: str, teacher_id: str, body: EvaluationCreate
) -> EvaluateTeacherRun:
    teachers.get(
        context.db, project_id, teacher_id
    )  # one in the path is not found, one in a body is not valid
    teacher = ready_teacher(context, project_id, teacher_id)
    dataset = ready_dataset(context, project_id, body.dataset)
    model, report = ModelSpec.model_validate(teacher.model), DatasetReport.model_validate(dataset.report)
    wrong = [
        *class_mismatch(model, report, "dataset", "Name a dataset of the teacher's classes."),
        *image_mismatch(model, report),
    ]
    if wrong:
        raise Refused(*wrong)
    given = teacher.normalization
    normalization = Normalization.model_validate(given) if given else report.normalization
    return EvaluateTeacherRun(model=model, normalization=normalization)
