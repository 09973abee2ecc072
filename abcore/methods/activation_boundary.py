"""The method of the paper: the student learns on which side of zero each neuron of the teacher is."""

from collections.abc import Sequence

from torch import Tensor

from abcore.losses import activation_boundary_loss
from abcore.methods.base import ConnectedMethod, tap_factors
from abcore.specs.methods import ActivationBoundary
from abcore.specs.reports import TapPair
from abcore.views import Views


class BoundaryTransfer(ConnectedMethod):
    """The activation-boundary loss behind a connector at each tap pair (paper, sections 3.1 to 3.3)."""

    def __init__(self, spec: ActivationBoundary, pairs: Sequence[TapPair]) -> None:
        super().__init__(pairs, spec.connector)
        self._margin = spec.margin
        self._factors = tap_factors(spec.weight, spec.tap_weights, pairs)
        self._names = tuple(f"ab/{pair.teacher.name}" for pair in pairs)

    def forward(self, student: Views, teacher: Views) -> dict[str, Tensor]:
        """Return one weighted loss a tap pair, shallow to deep. Of the teacher only the boundaries are used."""
        connected = self.connect(student.preacts)
        return {
            name: factor * activation_boundary_loss(preact_BCHW, teacher_on_BCHW, self._margin)
            for name, factor, preact_BCHW, teacher_on_BCHW in zip(
                self._names, self._factors, connected, teacher.boundaries, strict=True
            )
        }
