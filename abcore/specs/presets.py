"""Recipes by name: starting points as plain data, each field open to change."""

from abcore.specs.methods import ActivationBoundary
from abcore.specs.recipes import Augmentation, Finetune, Optimizer, Recipe, Schedule, Transfer

_PAPER_STEPS = Schedule(name="step", milestones=(0.3, 0.6, 0.8), gamma=0.2)
_CONSTANT = Schedule(name="constant")

PRESETS: dict[str, Recipe] = {
    # The paper's CIFAR-10 setting as in its public code: the teacher's norms in training mode in stage 1, KD alone and
    # without T² in stage 2, a constant rate in stage 1. How the epochs are shared out is ours: the code leaves it open.
    "paper-cifar": Recipe(
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
    ),
    # The paper's transfer learning (ImageNet teacher, MIT scenes): cross-entropy and DTL instead of KD, 60 + 40 epochs.
    "paper-transfer": Recipe(
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
    ),
    # What the service takes when nothing is said: normalised weights, cosine rates, KD with T².
    "modern": Recipe(
        transfer=Transfer(epochs=20, schedule=Schedule(name="cosine", warmup_fraction=0.05)),
        finetune=Finetune(epochs=60, schedule=Schedule(name="cosine", warmup_fraction=0.05)),
        augmentation=Augmentation(),
    ),
}
"""`paper-cifar`, `paper-transfer`, `modern`."""
