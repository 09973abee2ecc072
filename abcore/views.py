"""What a network makes of a batch, as far as a phase asks for it."""

from dataclasses import dataclass, field, replace

from torch import Tensor

from abcore.sign_layout import SignLayout


@dataclass(frozen=True)
class PackedSigns:
    """Which neurons are above zero, as bits: packed_BP of `SignLayout`, uint8."""

    packed: Tensor
    layout: SignLayout


@dataclass(frozen=True)
class Views:
    """One network's view of one batch.

    Attributes:
        preacts: pre-activations at the taps, shallow to deep, each preact_BCHW; empty if none were asked for.
        signs: which of them are above zero, where only that is known; None otherwise.
        logits: logits_BK, or None if the pass ended before the head.
        images: the images_BCHW, where the pass kept a graph back to them; None otherwise.
    """

    preacts: list[Tensor] = field(default_factory=list)
    signs: PackedSigns | None = None
    logits: Tensor | None = None
    images: Tensor | None = None

    @property
    def boundaries(self) -> list[Tensor]:
        """On which side of each boundary the batch lies: bool, true where the pre-activation is above zero."""
        if self.signs is None:
            return [preact_BCHW > 0 for preact_BCHW in self.preacts]
        return self.signs.layout.unpack(self.signs.packed)

    @property
    def tensors(self) -> list[Tensor]:
        """All that is in it, in an order of its own."""
        packed = None if self.signs is None else self.signs.packed
        return [*self.preacts, *(each for each in (packed, self.logits, self.images) if each is not None)]

    def clone(self) -> "Views":
        """A copy in memory of its own, without its graph."""
        return Views(
            preacts=[preact_BCHW.detach().clone() for preact_BCHW in self.preacts],
            signs=None if self.signs is None else replace(self.signs, packed=self.signs.packed.clone()),
            logits=None if self.logits is None else self.logits.detach().clone(),
        )
