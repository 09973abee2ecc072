"""Hints at a middle layer (Romero et al. 2015, arXiv 1412.6550)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from abcore.connectors import resize
from abcore.losses import accumulation_dtype
from abcore.methods.base import FeatureMethod, tap_factors
from abcore.specs.methods import FitNets
from abcore.specs.reports import TapPair
from abcore.views import Views


def hint_loss(regressed_BCHW: Tensor, hint_BCHW: Tensor) -> Tensor:
    """½ ‖hint - regressed‖² (ibid., eq. 3), averaged over the batch. A scalar, float32 for half-precision input."""
    difference = hint_BCHW - regressed_BCHW
    return difference.square().sum(dtype=accumulation_dtype(difference.dtype)) / (2 * len(difference))


class HintTransfer(FeatureMethod):
    """A regressor on the student's rectified map at the middle tap pair (of an even number, the deeper one)."""

    def __init__(self, spec: FitNets, pairs: Sequence[TapPair]) -> None:
        super().__init__()
        self._middle = len(pairs) // 2
        pair = pairs[self._middle]
        self._name = f"fitnets/{pair.teacher.name}"
        self._size = torch.Size((pair.teacher.height, pair.teacher.width))
        self._weight = tap_factors(None, None, [pair])[0] if spec.weight is None else spec.weight
        self.regressor = nn.Conv2d(pair.student.channels, pair.teacher.channels, kernel_size=1)

    def forward(self, student: Views, teacher: Views) -> dict[str, Tensor]:
        """Return the hint loss."""
        guided_BCHW = F.relu(student.preacts[self._middle])
        regressed_BCHW = F.relu(self.regressor(resize(guided_BCHW, self._size)))
        hint_BCHW = F.relu(teacher.preacts[self._middle])
        return {self._name: self._weight * hint_loss(regressed_BCHW, hint_BCHW)}
