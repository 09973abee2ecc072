"""Recipes by name: starting points as plain data, each field open to change."""

from typing import Any, Literal

from abcore.specs.base import Spec
from abcore.specs.methods import ActivationBoundary
from abcore.specs.recipes import Augmentation, Finetune, Optimizer, Recipe, Schedule, Transfer

PresetName = Literal["paper-cifar", "paper-transfer", "modern"]


class Preset(Spec):
    """A recipe, and what it is for."""

    name: PresetName
    description: str
    recipe: Recipe


_PAPER_STEPS = Schedule(name="step", milestones=(0.3, 0.6, 0.8), gamma=0.2)
_CONSTANT = Schedule(name="constant")
_COSINE = Schedule(name="cosine", warmup_fraction=0.05)
_ALL = (
    Preset(
        name="paper-cifar",
        description="The paper's CIFAR-10 setting as in its public code: the teacher's batch norms in training mode in "
        "transfer, a constant rate there, KD alone and without T² in finetune. How the epochs are shared out is ours: "
        "the code leaves it open.",
        recipe=Recipe(
            method=ActivationBoundary(weight=3 / 1000, connector="where_needed"),
            transfer=Transfer(epochs=10, schedule=_CONSTANT),
            finetune=Finetune(
                epochs=190,
                schedule=_PAPER_STEPS,
                kd_weight=1,
                cross_entropy_weight=0,
                temperature=3,
                temperature_squared=False,
            ),
            teacher_bn="train",
            augmentation=Augmentation(views="fresh"),
        ),
    ),
    Preset(
        name="paper-transfer",
        description="The paper's transfer learning (an ImageNet teacher, a dataset of other classes): labels and DTL "
        "instead of KD, 60 and 40 epochs.",
        recipe=Recipe(
            method=ActivationBoundary(weight=1 / 1000),
            transfer=Transfer(
                epochs=60,
                batch_size=32,
                optimizer=Optimizer(learning_rate=0.1, weight_decay=1e-4),
                schedule=_CONSTANT,
            ),
            finetune=Finetune(
                epochs=40,
                batch_size=32,
                optimizer=Optimizer(learning_rate=0.01, weight_decay=1e-4),
                schedule=Schedule(name="step", milestones=(0.5,), gamma=0.1),
                kd_weight=0,
                cross_entropy_weight=1,
                dtl_weight=10,
            ),
            augmentation=Augmentation(views="fresh"),
        ),
    ),
    Preset(
        name="modern",
        description="What did best in docs/experiments.md: two thirds of the epochs for the boundaries, at a high "
        "rate and with a wide margin; then KD with T² at a low one, so that it does not undo them. Weights do not "
        "depend on resolution and width.",
        recipe=Recipe(
            method=ActivationBoundary(margin=3.0),
            transfer=Transfer(epochs=40, optimizer=Optimizer(learning_rate=0.2), schedule=_COSINE),
            finetune=Finetune(epochs=20, optimizer=Optimizer(learning_rate=0.05), schedule=_COSINE),
        ),
    ),
)
PRESETS: dict[str, Preset] = {preset.name: preset for preset in _ALL}
"""All presets, by name."""


def start_from(preset: str, changes: Any) -> Any:
    """Lay `changes`, fields of a recipe as a caller writes them, over a preset; returned as they came if it is unknown.

    Objects are merged field by field. One of another `name` (a method, an optimizer) replaces the preset's whole.
    """
    if preset not in PRESETS or not isinstance(changes, dict):
        return changes
    return lay_over(PRESETS[preset].recipe.model_dump(mode="json"), changes)


def lay_over(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Lay changes over a recipe's fields, as `start_from` says."""
    merged = base | changes
    for field, value in changes.items():
        below = base.get(field)
        if (
            isinstance(value, dict)
            and isinstance(below, dict)
            and value.get("name", below.get("name")) == below.get("name")
        ):
            merged[field] = lay_over(below, value)
    return merged
