"""The arms of every comparison: recipes that differ in the method and in nothing else.

All arms see as many images, start from the same weights for the same seed, and have the same second phase: KD from the
same teacher. A method that acts in the transfer phase prepares the student for it; one that acts in the second phase is
added to it; `kd` and `cross-entropy` spend the whole budget on the second phase.
"""

from typing import Any

from benchmarks.paper.scales import Scale

Fields = dict[str, Any]

TRANSFER: dict[str, Fields] = {
    "ab": {"name": "ab"},
    "fitnets": {"name": "fitnets"},
    "fsp": {"name": "fsp"},
    "l2": {"name": "response", "power": "2"},
    "l1": {"name": "response", "power": "1"},
    "l0.5": {"name": "response", "power": "0.5"},
}
"""Methods of the transfer phase, as a caller of the API would write them."""

RATES: dict[str, float] = {"fsp": 0.05}
"""Of the transfer phase, where the scale's is too high: at 0.2 the products of maps that FSP compares diverge."""

FINETUNE: dict[str, Fields] = {
    "kd": {"name": "kd"},
    "at": {"name": "at"},
    "jacobian": {"name": "jacobian"},
    "ofd": {"name": "ofd"},
}
"""Methods of the finetune phase, the one without feature maps among them."""

KD: Fields = {"cross_entropy_weight": 0.0, "kd_weight": 1.0, "temperature": 3.0}
CROSS_ENTROPY: Fields = {"cross_entropy_weight": 1.0, "kd_weight": 0.0}
# The paper's 10 is for ImageNet's logits, which differ less: with ours it drowns the labels.
DTL: Fields = {**CROSS_ENTROPY, "dtl_weight": 0.1}


def recipe(
    scale: Scale,
    arm: str,
    *,
    seed: int,
    epochs: int | None = None,
    views: int | str = "fresh",
    task: Fields = KD,
    changes: Fields | None = None,
) -> Fields:
    """Return the recipe of an arm.

    Args:
        scale: batch size, rates, and how a budget is shared out between phases.
        arm: `cross-entropy`, or a method of `TRANSFER` or `FINETUNE`.
        seed: of weights, order and augmentation.
        epochs: of both phases together; the scale's if None.
        views: an image has; by default a new one in every epoch, as in the paper.
        task: the losses of the second phase; `cross-entropy` has its own.
        changes: fields of the method that differ from their defaults.
    """
    total = epochs or scale.epochs
    transfer_epochs = max(1, round(total * scale.transfer_epochs / scale.epochs)) if arm in TRANSFER else 0
    method = TRANSFER.get(arm) or FINETUNE.get(arm) or FINETUNE["kd"]
    common = {
        "batch_size": scale.batch_size,
        "schedule": {"name": "cosine", "warmup_fraction": 0.05},
    }
    transfer_rate = RATES.get(arm, scale.transfer_rate)
    transfer = {"epochs": transfer_epochs, "optimizer": {"learning_rate": transfer_rate}, **common}
    return {
        "seed": seed,
        "precision": "fp32",  # not chosen run by run: arms differ in the method alone
        "method": {**method, **(changes or {})},
        "transfer": transfer if transfer_epochs else None,
        "finetune": {
            "epochs": total - transfer_epochs,
            "optimizer": {"learning_rate": scale.finetune_rate},
            **common,
            **(CROSS_ENTROPY if arm == "cross-entropy" else task),
        },
        "augmentation": {**scale.augmentation, "views": views},
        "evaluate_every": total,
    }
