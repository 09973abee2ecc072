"""`/v1/teachers`: trained networks that students learn from."""

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from abcore.specs.refusals import Problem, Refusal
from api.auth import Reader, Submitter
from api.context import ContextDep
from api.documentation import UPLOAD, refusals
from api.paging import Cursor, Limit
from api.problems import Refused
from api.schemas.part_uploads import ContentChoice
from api.schemas.uploads import Teacher, TeacherCombine, TeacherCreate, TeacherPage, TeacherTrain
from api.teachers import prepare_ensemble, prepare_training
from api.uploads import attach_choice, receive_content
from store import teachers

router = APIRouter(prefix="/v1/teachers", tags=["teachers"])


@router.post("", status_code=201, operation_id="create_teacher", responses=refusals(413, 415, 503))
async def create(body: TeacherCreate, context: ContextDep, caller: Submitter, response: Response) -> Teacher:
    """Announce a teacher; its checkpoint follows by `PUT /v1/teachers/{id}/content`."""
    await _check(body, context)
    row = await run_in_threadpool(
        teachers.create,
        context.db,
        caller.project_id,
        name=body.name,
        model=body.model,
        normalization=body.normalization,
    )
    response.headers["Location"] = f"/v1/teachers/{row.id}"
    return Teacher.model_validate(row)


@router.post(
    "/train", status_code=202, operation_id="train_teacher", responses=refusals(409, 413, 415, 503, 507)
)
async def train(body: TeacherTrain, context: ContextDep, caller: Submitter, response: Response) -> Teacher:
    """Have a teacher trained on a dataset's labels. It is `pending` until its job has ended, which is a job like any.

    Watch `GET /v1/jobs/{training_job_id}`; cancelling that job makes the teacher `invalid`.
    """
    run, plan, macs = await prepare_training(context, caller.project_id, body)
    row = await run_in_threadpool(
        teachers.train,
        context.db,
        caller.project_id,
        name=body.name,
        dataset_id=body.dataset,
        run=run,
        spec={
            "student": body.architecture.model_dump(mode="json"),
            "recipe": body.recipe.model_dump(mode="json"),
            "outputs": {},
        },
        plan=plan.model_dump(mode="json"),
        work_macs=macs,
    )
    await run_in_threadpool(context.doorbell.ring)
    response.headers["Location"] = f"/v1/teachers/{row.id}"
    return Teacher.model_validate(row)


@router.post(
    "/combine", status_code=202, operation_id="combine_teachers", responses=refusals(409, 413, 415, 507)
)
def combine(body: TeacherCombine, context: ContextDep, caller: Submitter, response: Response) -> Teacher:
    """Make an ensemble of teachers one teacher. It is `pending` for the seconds that this takes."""
    run, normalization = prepare_ensemble(context, caller.project_id, body)
    row = teachers.combine(
        context.db,
        caller.project_id,
        name=body.name,
        members=body.members,
        run=run,
        normalization=normalization,
    )
    context.doorbell.ring()
    response.headers["Location"] = f"/v1/teachers/{row.id}"
    return Teacher.model_validate(row)


@router.get("", operation_id="list_teachers")
def list_(
    context: ContextDep,
    caller: Reader,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> TeacherPage:
    """List teachers, newest first."""
    page = teachers.list_(context.db, caller.project_id, limit=limit, cursor=cursor)
    return TeacherPage(
        data=[Teacher.model_validate(row) for row in page.items],
        has_more=page.next_cursor is not None,
        next_cursor=page.next_cursor,
    )


@router.get("/{teacher_id}", operation_id="get_teacher", responses=refusals(404))
def get(teacher_id: str, context: ContextDep, caller: Reader) -> Teacher:
    """Show a teacher: `ready` with a report, or `invalid` with its problems."""
    return Teacher.model_validate(teachers.get(context.db, caller.project_id, teacher_id))


@router.put(
    "/{teacher_id}/content",
    status_code=202,
    operation_id="upload_teacher",
    responses=refusals(400, 404, 408, 409, 411, 413, 507),
    openapi_extra=UPLOAD,
)
async def upload(teacher_id: str, request: Request, context: ContextDep, caller: Submitter) -> Teacher:
    """Send the checkpoint as the raw body: .safetensors, or a .pt/.pth state dict. Verification begins by itself.

    With `Content-Digest` (or `X-Content-SHA256`) the service checks that it got what was sent. The same content may be
    sent again.
    """
    row = await receive_content(request, context, caller.project_id, teachers, teacher_id)
    return Teacher.model_validate(row)


@router.post(
    "/{teacher_id}/content",
    status_code=202,
    operation_id="choose_teacher_content",
    responses=refusals(404, 409, 413, 415, 507),
)
def choose_content(
    teacher_id: str, body: ContentChoice, context: ContextDep, caller: Submitter, response: Response
) -> Teacher:
    """Take a complete upload in parts (`/v1/uploads`) as the content, or import it. Verification begins by itself."""
    row = attach_choice(context, caller.project_id, teachers, teacher_id, body)
    response.headers["Location"] = f"/v1/teachers/{row.id}"
    return Teacher.model_validate(row)


@router.delete("/{teacher_id}", status_code=204, operation_id="delete_teacher", responses=refusals(404, 409))
def delete(teacher_id: str, context: ContextDep, caller: Submitter) -> None:
    """Delete a teacher and its files. Refused while a job that has not ended needs it."""
    row = teachers.delete(context.db, caller.project_id, teacher_id)
    if row.blob_key is not None:
        context.blobs.delete(row.blob_key)


async def _check(body: TeacherCreate, context: ContextDep) -> None:
    """Refuse what no checkpoint could fit before anybody uploads one."""
    architecture, image = body.model.architecture, body.model.image
    if architecture.arch == "auto":
        raise Refused(
            Problem(
                code="teacher.auto",
                message="a teacher is a network that exists: `auto` is for students",
                where="model.architecture.arch",
                value="auto",
                hint="Name the architecture that the checkpoint was trained with.",
            )
        )
    if body.normalization is not None and len(body.normalization.mean) != image.channels:
        raise Refused(
            Problem(
                code="teacher.normalization",
                message=f"mean has {len(body.normalization.mean)} entries and images {image.channels} channels",
                where="normalization.mean",
                value=len(body.normalization.mean),
                allowed=(f"{image.channels} entries",),
            )
        )
    try:
        await context.describer.describe(body.model)
    except Refusal as refusal:
        where = f"model.{refusal.problem.where}" if refusal.problem.where else "model"
        raise Refused(refusal.problem.model_copy(update={"where": where})) from refusal
