"""What is checked before the service makes a teacher, by training or of others."""

from starlette.concurrency import run_in_threadpool

from abcore.specs.architectures import Ensemble, ModelSpec, Normalization
from abcore.specs.refusals import Problem, Refusal
from abcore.specs.reports import DatasetReport
from abcore.specs.runs import CombineTeachersRun, EnsembleSpec, TrainTeacherRun
from api.context import Context
from api.estimates import work_macs
from api.problems import Refused
from api.schemas.jobs import JobPlan
from api.schemas.uploads import TeacherCombine, TeacherTrain
from api.submission import ready_dataset, ready_teacher
from store.models import Teacher


async def prepare_training(
    context: Context, project_id: str, body: TeacherTrain
) -> tuple[TrainTeacherRun, JobPlan, float]:
    """Hold the wish for a teacher against its very dataset.

    Returns:
        What a child will be given, what it will make, and the multiply-accumulates of its training.

    Raises:
        Refused: 422 with what is wrong; 409 if the dataset is not ready.
        TorchUnavailable
    """
    dataset = await run_in_threadpool(ready_dataset, context, project_id, body.dataset)
    if body.recipe.needs_teacher:
        raise Refused(
            Problem(
                code="recipe.needs_teacher",
                message="a teacher is trained on labels alone, and this recipe asks a teacher",
                where="recipe",
                hint="Leave transfer out, and set finetune.kd_weight and finetune.dtl_weight to 0.",
            )
        )
    report = DatasetReport.model_validate(dataset.report)
    model = ModelSpec(architecture=body.architecture, image=report.image, num_classes=len(report.classes))
    try:
        description = await context.describer.describe(model)
    except Refusal as refusal:
        raise Refused(refusal.problem) from refusal
    run = TrainTeacherRun(
        model=description.spec,
        normalization=report.normalization,
        recipe=body.recipe,
        devices=body.devices,
    )
    plan = JobPlan(student=description)
    return run, plan, work_macs(body.recipe, plan, report)


def prepare_ensemble(
    context: Context, project_id: str, body: TeacherCombine
) -> tuple[CombineTeachersRun, Normalization | None]:
    """Hold the wish for an ensemble against its members; return what a child will be given, and their normalization.

    Raises:
        Refused: 422 a member is not there, or does not fit the first; 409 one is not ready.
    """
    members = [
        ready_teacher(context, project_id, id_, where=f"members.{index}")
        for index, id_ in enumerate(body.members)
    ]
    first, *others = members
    for index, other in enumerate(others, 1):
        _check_fits(first, other, f"members.{index}")
    specs = [ModelSpec.model_validate(member.model) for member in members]
    for index, spec in enumerate(specs):
        if isinstance(spec.architecture, Ensemble):
            raise Refused(
                Problem(
                    code="ensemble.nested",
                    message="a member is an ensemble itself",
                    where=f"members.{index}",
                    value=body.members[index],
                    hint="Name its members instead.",
                )
            )
    ensemble = Ensemble.model_validate({"arch": "ensemble", "members": [spec.architecture for spec in specs]})
    run = CombineTeachersRun(
        model=EnsembleSpec(architecture=ensemble, image=specs[0].image, num_classes=specs[0].num_classes)
    )
    normalization = Normalization.model_validate(first.normalization) if first.normalization else None
    return run, normalization


def _check_fits(first: Teacher, other: Teacher, where: str) -> None:
    mine, theirs = (
        {
            "image": row.model["image"],
            "num_classes": row.model["num_classes"],
            "normalization": row.normalization,
        }
        for row in (other, first)
    )
    for what, value in mine.items():
        if value != theirs[what]:
            raise Refused(
                Problem(
                    code="ensemble.mismatch",
                    message=f"teacher {other.id} has {what} {value}, the first member {theirs[what]}",
                    where=where,
                    value=other.id,
                    hint="All members see the same images, scaled alike, and tell the same classes apart.",
                )
            )
