"""What all methods that compare feature maps have in common."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from abcore.connectors import Connector, Straight
from abcore.specs.reports import TapPair
from abcore.views import Views

PAPER_WEIGHT = 3 / 1000
"""Factor of the paper's CIFAR setting on the sum over a tap's neurons, averaged over the batch."""

PAPER_DEEPEST_NEURONS = 64 * 4 * 8 * 8
"""Neurons of the deepest tap of that setting's teacher, a WRN-22-4 on 32x32 images."""


class FeatureMethod(nn.Module, ABC):
    """Makes named losses of what student and teacher have at their taps. What it trains along are its parameters.

    With `needs_image_gradients` the views it is given have `images`, to differentiate by.
    """

    needs_image_gradients: ClassVar[bool] = False

    @abstractmethod
    def forward(self, student: Views, teacher: Views) -> dict[str, Tensor]:
        """Return weighted losses, scalars, by name."""

    def prepare(self, teacher_views: Iterable[Views]) -> None:
        """Look at the teacher on a sample of the training images, once, before the phase. Most need not."""


class ConnectedMethod(FeatureMethod):
    """A method that brings the student's maps to the shape of the teacher's, through a connector at each tap pair."""

    def __init__(
        self, pairs: Sequence[TapPair], connector: Literal["always", "where_needed"] = "always"
    ) -> None:
        super().__init__()
        self._sizes = tuple(torch.Size((pair.teacher.height, pair.teacher.width)) for pair in pairs)
        self.connectors = nn.ModuleList(
            Connector(pair.student.channels, pair.teacher.channels)
            if connector == "always" or pair.student.channels != pair.teacher.channels
            else Straight()
            for pair in pairs
        )

    def connect(self, preacts: Sequence[Tensor]) -> list[Tensor]:
        """Bring the student's pre-activations, each preact_BCHW, to the shapes of the teacher's."""
        return [self.connect_one(tap, preact_BCHW) for tap, preact_BCHW in enumerate(preacts)]

    def connect_one(self, tap: int, preact_BCHW: Tensor) -> Tensor:
        """Bring the student's pre-activation at one pair, counted from the shallowest, to the teacher's shape."""
        connected: Tensor = self.connectors[tap](preact_BCHW, self._sizes[tap])
        return connected


def tap_factors(
    weight: float | None, tap_weights: tuple[float, ...] | None, pairs: Sequence[TapPair]
) -> tuple[float, ...]:
    """Return the factor on each tap's sum over neurons, shallow to deep.

    With `weight`, that weight times the tap's weight, by default the paper's 2^(i-n+1). Without it, the tap's weight
    times 3/1000 · 16,384 / (neurons of the teacher's tap). A sum grows with resolution and width; this keeps a tap's
    share where it is in the paper's CIFAR setting, and is exactly that setting's factor for its own teacher.
    """
    depth = len(pairs)
    if weight is not None:
        weights = tap_weights or tuple(2.0 ** (index - depth + 1) for index in range(depth))
        return tuple(weight * of_tap for of_tap in weights)
    weights = tap_weights or (1.0,) * depth
    return tuple(
        of_tap * PAPER_WEIGHT * (PAPER_DEEPEST_NEURONS / pair.teacher.neurons)
        for of_tap, pair in zip(weights, pairs, strict=True)
    )
