"""The method of the paper: the student learns on which side of zero each neuron of the teacher is."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from abcore.connectors import Connector
from abcore.losses import activation_boundary_loss
from abcore.specs.recipes import ActivationBoundary
from abcore.specs.reports import TapPair
from abcore.views import Views

PAPER_WEIGHT = 3 / 1000
"""Factor of the paper's CIFAR setting on the sum over a tap's neurons, averaged over the batch."""

PAPER_DEEPEST_NEURONS = 64 * 4 * 8 * 8
"""Neurons of the deepest tap of that setting's teacher, a WRN-22-4 on 32x32 images."""


class BoundaryTransfer(nn.Module):
    """One connector a tap pair, and the activation-boundary loss behind each (paper, sections 3.1 to 3.3)."""

    def __init__(self, spec: ActivationBoundary, pairs: Sequence[TapPair]) -> None:
        super().__init__()
        self._margin = spec.margin
        self._factors = tap_factors(spec, pairs)
        self._names = tuple(f"ab/{pair.teacher.name}" for pair in pairs)
        self._sizes = tuple(torch.Size((pair.teacher.height, pair.teacher.width)) for pair in pairs)
        self.connectors = nn.ModuleList(
            Connector(pair.student.channels, pair.teacher.channels) for pair in pairs
        )

    def connect(self, preacts: Sequence[Tensor]) -> list[Tensor]:
        """Bring the student's pre-activations, each preact_BCHW, to the shapes of the teacher's."""
        return [
            connector(preact_BCHW, size)
            for connector, preact_BCHW, size in zip(self.connectors, preacts, self._sizes, strict=True)
        ]

    def forward(self, student: Views, teacher: Views) -> dict[str, Tensor]:
        """Return one weighted loss a tap pair, shallow to deep."""
        return {
            name: factor * activation_boundary_loss(connected_BCHW, teacher_on_BCHW, self._margin)
            for name, factor, connected_BCHW, teacher_on_BCHW in zip(
                self._names, self._factors, self.connect(student.preacts), teacher.boundaries, strict=True
            )
        }


def tap_factors(spec: ActivationBoundary, pairs: Sequence[TapPair]) -> tuple[float, ...]:
    """Return the factor on each tap's sum over neurons, shallow to deep.

    With `spec.weight`, that weight times the tap's weight, by default the paper's 2^(i-n+1). Without it, the tap's
    weight times 3/1000 · 16,384 / (neurons of the teacher's tap). A sum grows with resolution and width; this keeps a
    tap's share where it is in the paper's CIFAR setting, and is exactly that setting's factor for its own teacher.
    """
    depth = len(pairs)
    if spec.weight is not None:
        weights = spec.tap_weights or tuple(2.0 ** (index - depth + 1) for index in range(depth))
        return tuple(spec.weight * weight for weight in weights)
    weights = spec.tap_weights or (1.0,) * depth
    return tuple(
        weight * PAPER_WEIGHT * (PAPER_DEEPEST_NEURONS / pair.teacher.neurons)
        for weight, pair in zip(weights, pairs, strict=True)
    )
