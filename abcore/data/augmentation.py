"""Batched augmentation on the training device: every image of a batch is moved by its own offset at once."""

import torch
from torch import Tensor
from torch.nn import functional as F

from abcore.specs.recipes import Augmentation

_GOLDEN = -7046029254386353131  # 2^64 divided by the golden ratio, as a signed 64-bit number
_MIX_1, _MIX_2 = -4658895280553007687, -7723592293110705685


def augment(
    images_BCHW: Tensor, index_B: Tensor, augmentation: Augmentation, *, seed: int, epoch: int
) -> Tensor:
    """Crop each image at random after zero-padding, and flip it at random; same shape and dtype as `images_BCHW`.

    What happens to an image depends on (seed, epoch, its index) alone: not on its batch, the batch's size, or the
    device. So a run that goes on in the middle of an epoch sees what it would have seen, and a cached view stays valid.

    Args:
        images_BCHW: any dtype; zero is what the padding is filled with.
        index_B: int64, each image's place in its split.
        augmentation: how far to pad and whether to flip.
        seed: the recipe's.
        epoch: counted over all phases.
    """
    padding = augmentation.crop_padding
    if padding:
        top_B = _integers(index_B, seed, epoch, 0, 2 * padding + 1)
        left_B = _integers(index_B, seed, epoch, 1, 2 * padding + 1)
        height, width = images_BCHW.shape[2:]
        # Every crop of the padded image as a view, of which indexing copies one an image, row by row.
        crops_BCTLHW = F.pad(images_BCHW, (padding,) * 4).unfold(2, height, 1).unfold(3, width, 1)
        images_BCHW = crops_BCTLHW[torch.arange(len(index_B), device=index_B.device), :, top_B, left_B]
    if augmentation.horizontal_flip:
        flipped_B = _integers(index_B, seed, epoch, 2, 2).bool()
        images_BCHW = torch.where(flipped_B[:, None, None, None], images_BCHW.flip(3), images_BCHW)
    return images_BCHW


def _integers(index_B: Tensor, seed: int, epoch: int, draw: int, bound: int) -> Tensor:
    """Integers in [0, bound), one an image: a counter-based generator (the finaliser of SplitMix64) on its coordinates.

    torch's own generators give numbers by position in a batch, and others on each device; a hash gives them by index.
    """
    state = index_B
    for coordinate in (seed, epoch, draw):
        state = _mix(state + _wrap((coordinate + 1) * _GOLDEN))
    return _shift(state, 33) % bound


def _mix(state: Tensor) -> Tensor:
    state = (state ^ _shift(state, 30)) * _MIX_1
    state = (state ^ _shift(state, 27)) * _MIX_2
    return state ^ _shift(state, 31)


def _shift(state: Tensor, bits: int) -> Tensor:
    # A logical shift: torch's >> on int64 keeps the sign.
    return (state >> bits) & ((1 << (64 - bits)) - 1)


def _wrap(number: int) -> int:
    return (number + 2**63) % 2**64 - 2**63
