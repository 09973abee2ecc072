"""What a network makes of a batch, as far as a phase asks for it."""

from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor


@dataclass(frozen=True)
class Views:
    """One network's view of one batch.

    Attributes:
        preacts: pre-activations at the taps, shallow to deep, each preact_BCHW; empty if none were asked for.
        signs: which of them are above zero, each bool and shaped alike, where only that is known; None otherwise.
        logits: logits_BK, or None if the pass ended before the head.
        images: the images_BCHW, where the pass kept a graph back to them; None otherwise.
    """

    preacts: list[Tensor] = field(default_factory=list)
    signs: list[Tensor] | None = None
    logits: Tensor | None = None
    images: Tensor | None = None

    @cached_property
    def boundaries(self) -> list[Tensor]:
        """On which side of each boundary the batch lies: bool, true where the pre-activation is above zero."""
        return [preact_BCHW > 0 for preact_BCHW in self.preacts] if self.signs is None else self.signs
