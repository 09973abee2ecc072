"""Jacobian matching (Srinivas and Fleuret 2018, ICML, arXiv 1803.00443), in its form for feature maps."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from abcore.losses import accumulation_dtype
from abcore.methods.attention import attention_loss
from abcore.methods.base import FeatureMethod
from abcore.specs.methods import JacobianMatching as JacobianSpec
from abcore.specs.reports import TapPair
from abcore.views import Views


def peak_gradient(preact_BCHW: Tensor, images_BCHW: Tensor, *, create_graph: bool) -> Tensor:
    """What the largest element of a tap's attention map answers to: its gradient by the image, scaled to norm 1.

    Args:
        preact_BCHW: pre-activations, computed from `images_BCHW` with a graph.
        images_BCHW: a tensor that requires a gradient.
        create_graph: whether the result shall be differentiable itself.

    Returns:
        (B, C·H·W) of the images. Each image has the gradient of its own element; where batch norm measures the batch,
        with what that element owes to the other images too.
    """
    responses_BCHW = F.relu(preact_BCHW)
    attention_BHW = responses_BCHW.square().sum(dim=1, dtype=accumulation_dtype(preact_BCHW.dtype))
    peaks_B = attention_BHW.flatten(1).max(dim=1).values
    (gradient_BCHW,) = torch.autograd.grad(
        peaks_B.sum(), images_BCHW, retain_graph=True, create_graph=create_graph
    )
    return F.normalize(gradient_BCHW.flatten(1))


def jacobian_loss(gradient_BP: Tensor, teacher_gradient_BP: Tensor) -> Tensor:
    """Squared difference of two scaled gradients, summed over pixels, averaged over the batch. A scalar."""
    return (gradient_BP - teacher_gradient_BP).square().sum() / len(gradient_BP)


class JacobianMatching(FeatureMethod):
    """At each tap pair the attention loss, and the loss on the gradients of the attention maps' largest elements."""

    needs_image_gradients: ClassVar[bool] = True

    def __init__(self, spec: JacobianSpec, pairs: Sequence[TapPair]) -> None:
        super().__init__()
        self._attention_factor = spec.beta / 2
        self._weight = spec.weight
        self._taps = tuple(pair.teacher.name for pair in pairs)

    def forward(self, student: Views, teacher: Views) -> dict[str, Tensor]:
        """Return two weighted losses a tap pair, shallow to deep."""
        assert student.images is not None, "the student's views were made without image gradients"
        assert teacher.images is not None, "the teacher's views were made without image gradients"
        losses = {}
        for tap, preact_BCHW, teacher_preact_BCHW in zip(
            self._taps, student.preacts, teacher.preacts, strict=True
        ):
            attention = attention_loss(preact_BCHW, teacher_preact_BCHW.detach())
            gradient_BP = peak_gradient(preact_BCHW, student.images, create_graph=True)
            teacher_gradient_BP = peak_gradient(teacher_preact_BCHW, teacher.images, create_graph=False)
            losses[f"at/{tap}"] = self._attention_factor * attention
            losses[f"jacobian/{tap}"] = self._weight * jacobian_loss(gradient_BP, teacher_gradient_BP)
        return losses
