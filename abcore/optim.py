"""Optimizers from a recipe, and the learning rate as a function of the step."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from abcore.specs.recipes import Optimizer, Schedule


def build_optimizer(spec: Optimizer, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Build the optimizer of a phase.

    Weight decay applies to weights of rank two and more. Biases and the scales of norms are left alone: shrinking them
    does not make a function simpler.
    """
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": spec.weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    if spec.name == "adamw":
        return torch.optim.AdamW(groups, lr=spec.learning_rate, fused=True)
    return torch.optim.SGD(
        groups,
        lr=spec.learning_rate,
        momentum=spec.momentum,
        nesterov=spec.nesterov and spec.momentum > 0,
        fused=True,
    )


def learning_rate(spec: Optimizer, schedule: Schedule, step: int, num_steps: int) -> float:
    """Return the rate of step `step` (from 0) of a phase of `num_steps`: a pure function, so a resume needs no state.

    The warm-up rises linearly to the full rate over its share of the steps. After it, `cosine` falls from the full rate
    to zero over the remaining steps (Loshchilov and Hutter 2017, arXiv 1608.03983, eq. 5, without restarts), and `step`
    multiplies by gamma at each milestone, a share of all steps.
    """
    warmup_steps = round(schedule.warmup_fraction * num_steps)
    if step < warmup_steps:
        return spec.learning_rate * (step + 1) / warmup_steps
    match schedule.name:
        case "constant":
            return spec.learning_rate
        case "cosine":
            progress = (step - warmup_steps) / max(1, num_steps - warmup_steps)
            return spec.learning_rate * (1 + math.cos(math.pi * progress)) / 2
        case "step":
            passed = sum(step >= milestone * num_steps for milestone in schedule.milestones)
            return float(spec.learning_rate * schedule.gamma**passed)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of all parameter groups."""
    for group in optimizer.param_groups:
        group["lr"] = rate
