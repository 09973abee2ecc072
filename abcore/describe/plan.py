"""What a distillation would do: which taps learn from which, by what connectors, and whether it can work at all."""

from collections.abc import Iterator
from contextlib import contextmanager

from abcore.architectures import build_on_meta
from abcore.architectures.meta import OnMeta
from abcore.describe.model import describe_model, record_pass
from abcore.methods import build_method
from abcore.specs.architectures import ModelSpec
from abcore.specs.recipes import Recipe
from abcore.specs.refusals import Refusal
from abcore.specs.reports import DistillationPlan, ModelDescription, TapPair, TapPoint
from abcore.taps.finding import candidates_in
from abcore.taps.pairing import describe_taps, pair_taps, tap_pair
from abcore.taps.resolving import resolve_in
from abcore.transfer_head import TransferHead


def plan_distillation(student: ModelSpec, teacher: ModelSpec, recipe: Recipe) -> DistillationPlan:
    """Plan the distillation of `teacher` into `student`.

    Taps are those of the recipe, or else found and paired automatically. Without a transfer phase they only serve to
    measure boundary similarity, and a pair of networks that has none is fine.

    Raises:
        Refusal: a network cannot be built or described, the two do not see the same images or (for KD) classes,
            taps are named that are not there, cannot be paired, are not as many as their weights, or cannot be
            compared by the recipe's method, the student has no place for DTL's head, the teacher's answers cannot be
            kept that shall be. `where` begins with `student`, `teacher` or `recipe`.
    """
    _check_images(student, teacher)
    _check_classes(student, teacher, recipe)
    with _blaming("student"):
        of_student = describe_model(student)
    with _blaming("teacher"):
        of_teacher = describe_model(teacher)
    pairs = _pairs(of_student, of_teacher, recipe)
    _check_weights(pairs, recipe)
    _check_source(recipe)
    if recipe.finetune is not None and recipe.finetune.dtl_weight:
        model = build_on_meta(of_student.spec)
        with OnMeta():
            TransferHead(model, teacher.num_classes)  # refuses a student that has no place for it
    if recipe.compares_taps:
        with OnMeta():
            build_method(recipe.method, pairs)  # refuses what the method cannot compare
    return DistillationPlan(
        student=of_student,
        teacher=of_teacher,
        pairs=pairs,
        compression=of_teacher.num_parameters / of_student.num_parameters,
    )


def _pairs(student: ModelDescription, teacher: ModelDescription, recipe: Recipe) -> tuple[TapPair, ...]:
    if recipe.taps is not None:
        students = _named(student.spec, recipe.taps.student, "recipe.taps.student")
        teachers = _named(teacher.spec, recipe.taps.teacher, "recipe.taps.teacher")
        return tuple(tap_pair(*taps) for taps in zip(students, teachers, strict=True))
    if student.taps and teacher.taps:
        return pair_taps(student.taps, teacher.taps)
    if not recipe.compares_taps:
        return ()
    candidates = {
        owner: _candidates(description) for owner, description in (("student", student), ("teacher", teacher))
    }
    owner = "teacher" if student.taps else "student"
    raise Refusal(
        "taps.none",
        f"no tap points were found in the {owner}, so its boundaries cannot be paired. "
        + " ".join(f"Candidates of the {side}: {listed}." for side, listed in candidates.items()),
        where=f"{owner}.architecture",
        hint="Name taps in recipe.taps, take another architecture, or set recipe.transfer to null.",
    )


def _named(spec: ModelSpec, names: tuple[str, ...], where: str) -> tuple[TapPoint, ...]:
    model = build_on_meta(spec)
    return resolve_in(record_pass(model, spec), model, names, where)


def _candidates(description: ModelDescription) -> str:
    taps = description.taps or candidates_in(record_pass(build_on_meta(description.spec), description.spec))
    return describe_taps(taps) or "none (no activation reads a feature map)"


def _check_images(student: ModelSpec, teacher: ModelSpec) -> None:
    if student.image != teacher.image:
        shapes = [
            f"{image.channels}x{image.height}x{image.width}" for image in (student.image, teacher.image)
        ]
        raise Refusal(
            "plan.images",
            f"the student takes images of {shapes[0]} and the teacher of {shapes[1]}; both see the same batches",
            where="teacher.image",
            value=shapes[1],
            allowed=(shapes[0],),
            hint="Use a dataset of the teacher's image shape, or a teacher of the dataset's.",
        )


def _check_classes(student: ModelSpec, teacher: ModelSpec, recipe: Recipe) -> None:
    uses_logits = recipe.finetune is not None and recipe.finetune.kd_weight > 0
    if uses_logits and student.num_classes != teacher.num_classes:
        raise Refusal(
            "plan.classes",
            f"the teacher tells {teacher.num_classes} classes apart and the student {student.num_classes}: "
            "KD compares their logits class by class",
            where="recipe.finetune.kd_weight",
            allowed=("0",),
            hint="Set kd_weight to 0 and cross_entropy_weight above 0, or use a dataset of the teacher's classes.",
        )


def _check_weights(pairs: tuple[TapPair, ...], recipe: Recipe) -> None:
    weights = getattr(recipe.method, "tap_weights", None)  # not every method has them
    if weights is not None and recipe.compares_taps and len(weights) != len(pairs):
        raise Refusal(
            "plan.tap_weights",
            f"{len(weights)} tap weights are given for {len(pairs)} pairs of taps",
            where="recipe.method.tap_weights",
            value=list(weights),
            allowed=(f"{len(pairs)} weights",),
            hint="The pairs: " + ", ".join(f"{pair.student.name} <- {pair.teacher.name}" for pair in pairs),
        )


def _check_source(recipe: Recipe) -> None:
    if recipe.teacher_source == "cached" and recipe.needs_teacher and not recipe.answers_recur:
        raise Refusal(
            "teacher_source.impossible",
            "the teacher's answers cannot be cached: the recipe compares values of maps, or answers to mixed images",
            where="recipe.teacher_source",
            value="cached",
            allowed=("auto", "online"),
        )


@contextmanager
def _blaming(owner: str) -> Iterator[None]:
    """Say in a refusal whose spec it is about."""
    try:
        yield
    except Refusal as refusal:
        where = refusal.problem.where
        refusal.problem = refusal.problem.model_copy(update={"where": f"{owner}.{where}" if where else owner})
        raise
