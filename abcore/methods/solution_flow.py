"""FSP matrices: how the features of one tap turn into the next's.

Yim, Joo, Bae, Kim 2017, CVPR, "A Gift from Knowledge Distillation".
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from abcore.connectors import resize
from abcore.losses import accumulation_dtype
from abcore.methods.base import FeatureMethod
from abcore.specs.methods import FlowOfSolution
from abcore.specs.refusals import Refusal
from abcore.specs.reports import TapPair
from abcore.views import Views


def fsp_matrix(upper_BCHW: Tensor, lower_BDHW: Tensor) -> Tensor:
    """Products of all channels of two rectified maps, averaged over pixels (ibid., eq. 1): (B, C, D).

    The map of higher resolution is averaged down to the other's (the publication pools).
    """
    size = min(upper_BCHW.shape[2:], lower_BDHW.shape[2:], key=lambda shape: shape.numel())
    upper, lower = (_flat(F.relu(maps), size) for maps in (upper_BCHW, lower_BDHW))
    return torch.einsum("bcp,bdp->bcd", upper, lower) / size.numel()


def _flat(maps_BCHW: Tensor, size: torch.Size) -> Tensor:
    return resize(maps_BCHW.to(accumulation_dtype(maps_BCHW.dtype)), size).flatten(2)


def fsp_loss(matrix_BCD: Tensor, teacher_matrix_BCD: Tensor) -> Tensor:
    """Squared difference of FSP matrices, summed over their elements, averaged over the batch (ibid., eq. 2)."""
    return (matrix_BCD - teacher_matrix_BCD).square().sum() / len(matrix_BCD)


class FlowTransfer(FeatureMethod):
    """The FSP loss between each tap and the next.

    Raises:
        Refusal: paired taps differ in channels (`fsp.channels`), or there is only one pair (`fsp.one_tap`).
    """

    def __init__(self, spec: FlowOfSolution, pairs: Sequence[TapPair]) -> None:
        super().__init__()
        _check(pairs)
        self._weight = spec.weight
        self._names = tuple(f"fsp/{pair.teacher.name}" for pair in pairs[1:])

    def forward(self, student: Views, teacher: Views) -> dict[str, Tensor]:
        """Return one weighted loss for each two successive taps."""
        losses = {}
        for index, name in enumerate(self._names):
            matrices = [fsp_matrix(*views.preacts[index : index + 2]) for views in (student, teacher)]
            losses[name] = self._weight * fsp_loss(*matrices)
        return losses


def _check(pairs: Sequence[TapPair]) -> None:
    if len(pairs) < 2:
        raise Refusal(
            "fsp.one_tap",
            "FSP compares successive taps, and there is one pair",
            where="recipe.taps",
            value=len(pairs),
            allowed=(">= 2 pairs",),
        )
    for pair in pairs:
        if pair.student.channels != pair.teacher.channels:
            raise Refusal(
                "fsp.channels",
                f"FSP compares matrices of channels, and tap {pair.student.name} has {pair.student.channels} of them, "
                f"the teacher's {pair.teacher.name} {pair.teacher.channels}",
                where="recipe.method",
                value="fsp",
                hint="Take a student of the teacher's width (another depth is fine), or another method.",
            )
