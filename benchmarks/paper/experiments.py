"""Which runs each experiment of the paper consists of, and what is read off them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from abcore.specs.presets import PRESETS
from benchmarks.paper.arms import CROSS_ENTROPY, DTL, FINETUNE, recipe
from benchmarks.paper.scales import ModelFields, Scale

ARMS = ("cross-entropy", "kd", "fitnets", "at", "ab")


@dataclass(frozen=True)
class Trial:
    """One run: what tells it from the others in a table (`arm`, `x`), and what it takes to run it.

    `share` is that of the scale's training images. With `other_labels` the student learns pairs of the classes that the
    teacher tells apart.
    """

    arm: str
    x: str
    seed: int
    student: ModelFields
    recipe: dict[str, Any]
    share: float = 1.0
    other_labels: bool = False


@dataclass(frozen=True)
class Experiment:
    """`trials(scale, seed)` yields one seed's runs; `figure` is the column that is compared along `x_label`.

    `curves`: x is a quantity, and arms are lines over it; else arms (or x, where there is one arm) are bars.
    """

    title: str
    x_label: str
    trials: Callable[[Scale, int], Iterator[Trial]]
    figures: tuple[str, ...] = ("top1",)
    curves: bool = False


def _learning_speed(scale: Scale, seed: int) -> Iterator[Trial]:
    for epochs in scale.budgets:
        for arm in ARMS:
            yield Trial(arm, str(epochs), seed, scale.student, recipe(scale, arm, seed=seed, epochs=epochs))


def _training_set_size(scale: Scale, seed: int) -> Iterator[Trial]:
    # As many steps for every share: with as many epochs, a small set would mean a short training too.
    for share in scale.shares:
        for arm in ("cross-entropy", "kd", "ab"):
            fields = recipe(scale, arm, seed=seed, epochs=round(scale.epochs / share))
            yield Trial(arm, f"{share:.0%}", seed, scale.student, fields, share)


def _student_variety(scale: Scale, seed: int) -> Iterator[Trial]:
    for kind, student in scale.students.items():
        for arm in ("cross-entropy", "kd", "ab"):
            yield Trial(arm, kind, seed, student, recipe(scale, arm, seed=seed))


def _losses(scale: Scale, seed: int) -> Iterator[Trial]:
    for arm in ("l2", "l1", "l0.5", "ab"):
        yield Trial(arm, "", seed, scale.student, recipe(scale, arm, seed=seed))


def _margin(scale: Scale, seed: int) -> Iterator[Trial]:
    for margin in scale.margins:
        changes = {"margin": margin}
        yield Trial("ab", f"{margin:g}", seed, scale.student, recipe(scale, "ab", seed=seed, changes=changes))


def _transfer_learning(scale: Scale, seed: int) -> Iterator[Trial]:
    # KD cannot take part: the teacher's logits speak of other labels.
    for arm, label, task in (
        ("cross-entropy", "cross-entropy", CROSS_ENTROPY),
        ("fitnets", "fitnets", CROSS_ENTROPY),
        ("at", "at", CROSS_ENTROPY),
        ("ab", "ab", CROSS_ENTROPY),
        ("ab", "ab + DTL", DTL),
    ):
        fields = recipe(scale, arm, seed=seed, task=task)
        yield Trial(label, "", seed, scale.student, fields, other_labels=True)


def _methods(scale: Scale, seed: int) -> Iterator[Trial]:
    # FSP compares channels one by one, so the student of this table has the teacher's width.
    for arm in ("cross-entropy", *FINETUNE, "fitnets", "fsp", "ab"):
        yield Trial(arm, "", seed, scale.students["depth"], recipe(scale, arm, seed=seed))


def _presets(scale: Scale, seed: int) -> Iterator[Trial]:
    # Each preset's epochs are shared out within the scale's budget as they are in the preset.
    for name in ("paper-cifar", "modern"):
        fields = PRESETS[name].recipe.model_dump(mode="json")
        phases = [fields["transfer"], fields["finetune"]]
        share = phases[0]["epochs"] / sum(phase["epochs"] for phase in phases)
        phases[0]["epochs"] = max(1, round(share * scale.epochs))
        phases[1]["epochs"] = scale.epochs - phases[0]["epochs"]
        for phase in phases:
            phase["batch_size"] = scale.batch_size
        augmentation = {**scale.augmentation, "views": "fresh"}
        fields |= {"seed": seed, "augmentation": augmentation, "evaluate_every": scale.epochs}
        yield Trial(name, "", seed, scale.student, fields)


def _views(scale: Scale, seed: int) -> Iterator[Trial]:
    for views in scale.views:
        for arm in ("kd", "ab"):
            yield Trial(arm, str(views), seed, scale.student, recipe(scale, arm, seed=seed, views=views))


def _precision(scale: Scale, seed: int) -> Iterator[Trial]:
    for precision in ("fp32", "bf16"):
        for arm in ("kd", "ab"):
            fields = recipe(scale, arm, seed=seed) | {"precision": precision}
            yield Trial(arm, precision, seed, scale.student, fields)


EXPERIMENTS = {
    "learning-speed": Experiment("Learning speed", "epochs in all", _learning_speed, curves=True),
    "training-set-size": Experiment(
        "Training-set size", "share of the training images", _training_set_size, curves=True
    ),
    "student-variety": Experiment("Student variety", "what is smaller", _student_variety),
    "losses": Experiment("Losses", "", _losses, ("similarity", "top1")),
    "margin": Experiment("Margin", "margin µ", _margin, ("top1", "similarity"), curves=True),
    "transfer-learning": Experiment("Transfer to another label set", "", _transfer_learning),
    "methods": Experiment("Methods", "", _methods),
    "presets": Experiment("Presets", "", _presets),
    "views": Experiment("Views", "views an image has", _views),
    "precision": Experiment("Precision", "of forward passes", _precision, ("top1", "similarity")),
}
"""By the name that the command takes."""
