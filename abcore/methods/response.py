"""Responses instead of boundaries: the losses that the paper compares its own with."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from abcore.losses import accumulation_dtype
from abcore.methods.base import ConnectedMethod, tap_factors
from abcore.specs.methods import Response
from abcore.specs.reports import TapPair
from abcore.views import Views

_SMALLEST_DISTANCE = 1e-6


def response_loss(
    preact_BCHW: Tensor, teacher_preact_BCHW: Tensor, *, power: float, rectified: bool
) -> Tensor:
    """Σ |σ(t) - σ(x)|^p over neurons, averaged over the batch (paper, eq. 1 for p = 2); σ is ReLU or nothing.

    For p < 1 the slope at equality is infinite: distances are taken as at least 1e-6 there, with slope 0 below.

    Returns:
        A scalar, float32 for half-precision input.
    """
    if rectified:
        preact_BCHW, teacher_preact_BCHW = F.relu(preact_BCHW), F.relu(teacher_preact_BCHW)
    distance = (teacher_preact_BCHW - preact_BCHW).abs()
    distance = distance.to(accumulation_dtype(distance.dtype))
    if power < 1:
        distance = distance.clamp(min=_SMALLEST_DISTANCE)
    return distance.pow(power).sum() / len(distance)


class ResponseTransfer(ConnectedMethod):
    """The response loss behind a connector at each tap pair."""

    def __init__(self, spec: Response, pairs: Sequence[TapPair]) -> None:
        super().__init__(pairs, spec.connector)
        self._power = float(spec.power)
        self._rectified = spec.rectified
        self._factors = tap_factors(spec.weight, spec.tap_weights, pairs)
        self._names = tuple(f"response/{pair.teacher.name}" for pair in pairs)

    def forward(self, student: Views, teacher: Views) -> dict[str, Tensor]:
        """Return one weighted loss a tap pair, shallow to deep."""
        connected = self.connect(student.preacts)
        return {
            name: factor * response_loss(x_BCHW, t_BCHW, power=self._power, rectified=self._rectified)
            for name, factor, x_BCHW, t_BCHW in zip(
                self._names, self._factors, connected, teacher.preacts, strict=True
            )
        }
