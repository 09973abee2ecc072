"""The method of the paper: the student learns on which side of zero each neuron of the teacher is."""

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from abcore.losses import activation_boundary_loss
from abcore.methods.base import ConnectedMethod, tap_factors
from abcore.recording import side_by_side
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
        boundaries = teacher.boundaries

        def loss(tap: int) -> Tensor:
            preact_BCHW = self.connect_one(tap, student.preacts[tap])
            return self._factors[tap] * activation_boundary_loss(preact_BCHW, boundaries[tap], self._margin)

        parts = [partial(loss, tap) for tap in range(len(self._names))]
        losses = side_by_side(parts, [*student.preacts, *boundaries])
        return dict(zip(self._names, losses, strict=True))
