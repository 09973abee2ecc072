"""Spatial attention maps (Zagoruyko and Komodakis 2017, arXiv 1612.03928)."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from abcore.connectors import resize
from abcore.losses import accumulation_dtype
from abcore.methods.base import FeatureMethod
from abcore.specs.methods import AttentionTransfer
from abcore.specs.reports import TapPair
from abcore.views import Views


def attention_map(preact_BCHW: Tensor) -> Tensor:
    """Where a layer looks: squared rectified responses, summed over channels, scaled to norm 1 an image: (B, H·W)."""
    responses_BCHW = F.relu(preact_BCHW)
    attention_BHW = responses_BCHW.square().sum(dim=1, dtype=accumulation_dtype(preact_BCHW.dtype))
    return F.normalize(attention_BHW.flatten(1))


def attention_loss(preact_BCHW: Tensor, teacher_preact_BCHW: Tensor) -> Tensor:
    """Squared difference of two attention maps, averaged over pixels and batch (ibid., eq. 2 and section 4.1).

    Channels may differ; of two resolutions the larger map is averaged down to the smaller.

    Returns:
        A scalar, float32 for half-precision input.
    """
    size = min(preact_BCHW.shape[2:], teacher_preact_BCHW.shape[2:], key=lambda shape: shape.numel())
    attention, teacher_attention = (
        attention_map(resize(F.relu(preact), size)) for preact in (preact_BCHW, teacher_preact_BCHW)
    )
    return F.mse_loss(attention, teacher_attention)


class AttentionMatching(FeatureMethod):
    """β/2 times the attention loss at each tap pair."""

    def __init__(self, spec: AttentionTransfer, pairs: Sequence[TapPair]) -> None:
        super().__init__()
        self._factor = spec.beta / 2
        self._names = tuple(f"at/{pair.teacher.name}" for pair in pairs)

    def forward(self, student: Views, teacher: Views) -> dict[str, Tensor]:
        """Return one weighted loss a tap pair, shallow to deep."""
        return {
            name: self._factor * attention_loss(preact_BCHW, teacher_preact_BCHW)
            for name, preact_BCHW, teacher_preact_BCHW in zip(
                self._names, student.preacts, teacher.preacts, strict=True
            )
        }
