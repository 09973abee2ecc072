"""Mixed batches: mixup and CutMix, with the labels of both images."""

import torch
from torch import Tensor

from abcore.losses import cross_entropy


class Mixture:
    """A batch whose image i is mixed with image `partner[i]`; `share` is how much of image i is left, 0..1."""

    def __init__(self, images_BCHW: Tensor, partner_B: Tensor, share: float) -> None:
        self.images_BCHW = images_BCHW
        self._partner_B = partner_B
        self._share = share

    def cross_entropy(self, logits_BK: Tensor, labels_B: Tensor, *, label_smoothing: float) -> Tensor:
        """Cross-entropy with both labels, each by its share of the image."""
        loss = cross_entropy(logits_BK, labels_B, label_smoothing=label_smoothing)
        if self._share == 1:
            return loss
        of_partner = cross_entropy(logits_BK, labels_B[self._partner_B], label_smoothing=label_smoothing)
        return self._share * loss + (1 - self._share) * of_partner


def mix(images_BCHW: Tensor, *, mixup: float, cutmix: float) -> Mixture:
    """Mix a batch with itself in another order, by one share for the whole batch.

    Mixup (Zhang et al. 2018, arXiv 1710.09412, section 2) adds the images; CutMix (Yun et al. 2019, arXiv 1905.04899,
    section 3.1) pastes a rectangle. All is drawn from torch's global generator, so a resumed run goes on with it.

    Args:
        images_BCHW: normalised images.
        mixup: α of mixup, 0 for never.
        cutmix: α of CutMix, 0 for never; with both, either has a chance of one half.
    """
    if not mixup and not cutmix:
        return Mixture(images_BCHW, torch.arange(len(images_BCHW)), 1.0)
    cut = bool(cutmix) and (not mixup or float(torch.rand(())) < 0.5)
    alpha = cutmix if cut else mixup
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    partner_B = torch.randperm(len(images_BCHW)).to(images_BCHW.device)
    if not cut:
        return Mixture(share * images_BCHW + (1 - share) * images_BCHW[partner_B], partner_B, share)
    return _paste(images_BCHW, partner_B, share)


def _paste(images_BCHW: Tensor, partner_B: Tensor, share: float) -> Mixture:
    height, width = images_BCHW.shape[2:]
    sides = [(size * (1 - share) ** 0.5) / 2 for size in (height, width)]
    centres = [int(torch.randint(size, ())) for size in (height, width)]
    (top, bottom), (left, right) = (
        (max(0, round(centre - side)), min(size, round(centre + side)))
        for centre, side, size in zip(centres, sides, (height, width), strict=True)
    )
    mixed = images_BCHW.clone()
    mixed[:, :, top:bottom, left:right] = images_BCHW[partner_B, :, top:bottom, left:right]
    # The border may have cut the rectangle: what counts is the area that was pasted.
    return Mixture(mixed, partner_B, 1 - (bottom - top) * (right - left) / (height * width))
