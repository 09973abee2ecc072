"""What is checked before a job is queued: what cannot work is refused here, not an hour later."""

from collections.abc import Iterator

from starlette.concurrency import run_in_threadpool

from abcore.specs.architectures import ImageShape, ModelSpec, Normalization
from abcore.specs.outputs import FORMATS, Outputs
from abcore.specs.refusals import Problem, Refusal
from abcore.specs.reports import DatasetReport
from abcore.specs.runs import DistillRun
from api.context import Context
from api.estimates import work_macs
from api.problems import Refused
from api.schemas.jobs import JobCreate, JobPlan
from store import datasets, teachers
from store.errors import NotFound
from store.jobs import NewJob
from store.models import Dataset, Teacher


async def prepare_job(
    context: Context,
    project_id: str,
    body: JobCreate,
    idempotency_key: str | None = None,
    idempotency_hash: str | None = None,
) -> NewJob:
    """Hold a request against its very teacher and dataset, and work out what the job would do.

    Raises:
        Refused: 422 with each thing that is wrong; 409 if the teacher or the dataset is not ready.
        TorchUnavailable
    """
    dataset, teacher = await run_in_threadpool(_inputs, context, project_id, body)
    report = DatasetReport.model_validate(dataset.report)
    wrong = list(_mismatches(body, teacher, report))
    if wrong:
        raise Refused(*wrong)
    plan = await _plan(context, body, teacher, report)
    normalization = teacher.normalization if teacher is not None else None
    run = DistillRun(
        student=plan.student.spec.architecture,
        teacher=None if teacher is None else ModelSpec.model_validate(teacher.model),
        normalization=Normalization.model_validate(normalization) if normalization else report.normalization,
        recipe=body.recipe,
        outputs=body.outputs,
        devices=body.devices,
    )
    return NewJob(
        project_id=project_id,
        spec=body.model_dump(mode="json", include={"student", "recipe", "outputs"}),
        run=run,
        dataset_id=dataset.id,
        teacher_id=None if teacher is None else teacher.id,
        name=body.name,
        labels=body.labels,
        plan=plan.model_dump(mode="json"),
        priority=body.priority,
        work_macs=work_macs(body.recipe, plan, report),
        max_runtime_seconds=body.max_runtime_seconds,
        idempotency_key=idempotency_key,
        idempotency_hash=idempotency_hash,
    )


def _inputs(context: Context, project_id: str, body: JobCreate) -> tuple[Dataset, Teacher | None]:
    dataset = ready_dataset(context, project_id, body.dataset)
    return dataset, None if body.teacher is None else ready_teacher(context, project_id, body.teacher)


def ready_dataset(context: Context, project_id: str, dataset_id: str) -> Dataset:
    """Return a dataset that a job can use.

    Raises:
        Refused: 422 there is none; 409 it is not ready.
    """
    try:
        dataset = datasets.get(context.db, project_id, dataset_id)
    except NotFound as error:
        raise _unknown("dataset", dataset_id, "dataset") from error
    _require_ready(dataset, "dataset", "dataset")
    return dataset


def ready_teacher(context: Context, project_id: str, teacher_id: str, where: str = "teacher") -> Teacher:
    """Return a teacher that a job can use; `where` is the field that names it.

    Raises:
        Refused: 422 there is none; 409 it is not ready.
    """
    try:
        teacher = teachers.get(context.db, project_id, teacher_id)
    except NotFound as error:
        raise _unknown("teacher", teacher_id, where) from error
    _require_ready(teacher, "teacher", where)
    return teacher


def _unknown(kind: str, value: str, where: str) -> Refused:
    return Refused(
        Problem(
            code=f"{kind}.unknown",
            message=f"there is no {kind} {value!r} in this project",
            where=where,
            value=value,
            hint=f"GET /v1/{kind}s lists those that there are.",
        )
    )


def _require_ready(row: Teacher | Dataset, kind: str, where: str) -> None:
    if row.state == "ready":
        return
    hint = (
        f"Wait until GET /v1/{kind}s/{row.id} says `ready`."
        if row.state == "pending"
        else f"GET /v1/{kind}s/{row.id} says why; create a new {kind} with the mended file."
    )
    state = f"{row.state} ({row.state_detail.rstrip('.')})" if row.state_detail else row.state
    problem = Problem(
        code=f"{kind}.not_ready",
        message=f"{kind} {row.id} is {state}",
        where=where,
        value=row.state,
        allowed=("ready",),
        hint=hint,
    )
    raise Refused(problem)


def _mismatches(body: JobCreate, teacher: Teacher | None, report: DatasetReport) -> Iterator[Problem]:
    yield from _cannot_be_made(body.outputs)
    if teacher is None:
        if body.recipe.needs_teacher:
            yield Problem(
                code="teacher.required",
                message="the recipe asks a teacher, and none is given",
                where="teacher",
                hint="Name a teacher; or train the student alone: recipe.transfer null, recipe.finetune.kd_weight 0, "
                "recipe.finetune.cross_entropy_weight 1.",
            )
        return
    model = ModelSpec.model_validate(teacher.model)
    # Logits are compared class by class; boundaries and DTL's extra head work across different classes.
    finetune = body.recipe.finetune
    if finetune is not None and finetune.kd_weight > 0:
        yield from class_mismatch(
            model,
            report,
            "teacher",
            "Use a teacher of the dataset's classes; or learn its boundaries only: recipe.finetune.kd_weight 0 "
            "and cross_entropy_weight 1.",
        )
    yield from image_mismatch(model, report)


def _cannot_be_made(outputs: Outputs) -> Iterator[Problem]:
    """Name the formats whose libraries this installation lacks. Workers are installed like the API."""
    can_be_made = tuple(name for name, facts in FORMATS.items() if not facts.missing)
    for field in ("formats", "required"):
        for index, name in enumerate(getattr(outputs, field)):
            if FORMATS[name].missing:
                yield Problem(
                    code="outputs.unavailable",
                    message=f"{name} needs {', '.join(FORMATS[name].missing)}, which this service does not have",
                    where=f"outputs.{field}[{index}]",
                    value=name,
                    allowed=can_be_made,
                )


def class_mismatch(model: ModelSpec, report: DatasetReport, where: str, hint: str) -> Iterator[Problem]:
    """Say that teacher and dataset have different numbers of classes, if so."""
    if model.num_classes != len(report.classes):
        yield Problem(
            code="teacher.classes",
            message=f"the teacher has {model.num_classes} classes and the dataset {len(report.classes)}",
            where=where,
            value=model.num_classes,
            allowed=(f"{len(report.classes)} classes",),
            hint=hint,
        )


def image_mismatch(model: ModelSpec, report: DatasetReport) -> Iterator[Problem]:
    """Say that the teacher takes other images than the dataset's, if so."""
    if model.image != report.image:
        size = model.image.height if model.image.height == model.image.width else None
        yield Problem(
            code="teacher.image",
            message=f"the teacher takes images of {_shape(model.image)}, the dataset's have {_shape(report.image)}",
            where="dataset",
            value=_shape(report.image),
            allowed=(_shape(model.image),),
            hint="Create the dataset again"
            + (
                f" with image_size {size}." if size and model.image.channels == report.image.channels else "."
            ),
        )


def _shape(image: ImageShape) -> str:
    return f"{image.channels}x{image.height}x{image.width} (channels x height x width)"


async def _plan(context: Context, body: JobCreate, teacher: Teacher | None, report: DatasetReport) -> JobPlan:
    student = ModelSpec(architecture=body.student, image=report.image, num_classes=len(report.classes))
    try:
        if teacher is None:
            return JobPlan(student=await context.describer.describe(student))
        plan = await context.describer.plan(student, ModelSpec.model_validate(teacher.model), body.recipe)
    except Refusal as refusal:
        raise Refused(_in_request(refusal.problem)) from refusal
    return JobPlan.model_validate(plan.model_dump())


def _in_request(problem: Problem) -> Problem:
    """Name the field as the request has it: the core's `architecture` is `student`, its `image` the dataset's."""
    where = (problem.where or "").removeprefix("student.")
    parts = where.split(".") if where else []
    if parts:
        parts[0] = {"architecture": "student", "image": "dataset"}.get(parts[0], parts[0])
    return problem.model_copy(update={"where": ".".join(parts) or "student"})
