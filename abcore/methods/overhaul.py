"""OFD, the successor by the same authors.

Heo, Kim, Yun, Park, Kwak, Choi 2019, "A Comprehensive Overhaul of Feature Distillation", ICCV, arXiv 1904.01866.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from abcore.losses import accumulation_dtype
from abcore.methods.base import ConnectedMethod, tap_factors
from abcore.specs.methods import Overhaul
from abcore.specs.reports import TapPair
from abcore.views import Views


def partial_distance(preact_BCHW: Tensor, teacher_preact_BCHW: Tensor, margin_C: Tensor) -> Tensor:
    """Squared distance to max(t, margin), but 0 where the student is below it and it is not positive (ibid., eq. 1, 4).

    Returns:
        A scalar: summed over a tap's neurons, averaged over the batch. float32 for half-precision input.
    """
    target_BCHW = torch.maximum(teacher_preact_BCHW, margin_C[:, None, None].to(teacher_preact_BCHW.dtype))
    counts = (preact_BCHW > target_BCHW) | (target_BCHW > 0)
    distance = torch.where(counts, preact_BCHW - target_BCHW, 0)
    return distance.square().sum(dtype=accumulation_dtype(distance.dtype)) / len(distance)


class OverhaulMatching(ConnectedMethod):
    """The partial distance behind a connector at each tap pair.

    A channel's margin is the mean of its negative pre-activations, measured on training images. (The published code
    derives the same expectation from the teacher's batch norm, which not every tap has.)
    """

    def __init__(self, spec: Overhaul, pairs: Sequence[TapPair]) -> None:
        super().__init__(pairs)
        self._factors = tap_factors(spec.weight, None, pairs)
        self._names = tuple(f"ofd/{pair.teacher.name}" for pair in pairs)
        for index, pair in enumerate(pairs):
            self.register_buffer(f"margin_{index}", torch.zeros(pair.teacher.channels))

    def prepare(self, teacher_views: Iterable[Views]) -> None:
        """Measure the margins."""
        margins = [self.get_buffer(f"margin_{index}") for index in range(len(self._names))]
        sums, counts = ([torch.zeros_like(margin).double() for margin in margins] for _ in range(2))
        for views in teacher_views:
            for index, preact_BCHW in enumerate(views.preacts):
                negative = preact_BCHW.clamp(max=0).double()
                sums[index] += negative.sum(dim=(0, 2, 3))
                counts[index] += (negative < 0).sum(dim=(0, 2, 3))
        for margin, total, count in zip(margins, sums, counts, strict=True):
            margin.copy_(total / count.clamp(min=1))

    def forward(self, student: Views, teacher: Views) -> dict[str, Tensor]:
        """Return one weighted loss a tap pair, shallow to deep."""
        connected = self.connect(student.preacts)
        return {
            name: self._factors[index]
            * partial_distance(connected[index], teacher.preacts[index], self.get_buffer(f"margin_{index}"))
            for index, name in enumerate(self._names)
        }
