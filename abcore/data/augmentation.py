"""Batched augmentation on the training device: every image of a batch is moved by its own offset at once."""

import torch
from torch import Tensor
from torch.nn import functional as F

from abcore.specs.recipes import Augmentation

_GOLDEN = -7046029254386353131  # 2^64 divided by the golden ratio, as a signed 64-bit number
_MIX_1, _MIX_2 = -4658895280553007687, -7723592293110705685


def augment(
    images_BCHW: Tensor, index_B: Tensor, augmentation: Augmentation, *, seed: int, view: int
) -> Tensor:
    """Crop each image at random after zero-padding, and flip it at random; same shape and dtype as `images_BCHW`.

    What happens to an image depends on (seed, view, its index) alone: not on its batch, the batch's size, or the
    device. So a run that goes on in the middle of an epoch sees what it would have seen, and what the teacher said of
    a view stays true.

    Args:
        images_BCHW: any dtype; zero is what the padding is filled with.
        index_B: int64, each image's place in its split.
        augmentation: how far to pad and whether to flip.
        seed: of the draws.
        view: number of the view.
    """
    if not augmentation.moves:
        return images_BCHW
    padding = augmentation.crop_padding
    batch_size, channels, height, width = images_BCHW.shape
    top_B, left_B, flip_B = _draws(index_B, seed, view, 3)
    row_BH = (top_B % (2 * padding + 1))[:, None] + torch.arange(height, device=index_B.device)
    column_BW = torch.arange(width, device=index_B.device).expand(batch_size, -1)
    if augmentation.horizontal_flip:
        column_BW = torch.where((flip_B % 2 == 1)[:, None], column_BW.flip(1), column_BW)
    column_BW = (left_B % (2 * padding + 1))[:, None] + column_BW
    # One copy does it all: each pixel is fetched from where crop and flip together say that it comes from.
    source_BHW = row_BH[:, :, None] * (width + 2 * padding) + column_BW[:, None, :]
    padded_BCP = F.pad(images_BCHW, (padding,) * 4).flatten(2)
    return padded_BCP.gather(2, source_BHW.flatten(1)[:, None].expand(-1, channels, -1)).view(
        images_BCHW.shape
    )


def _draws(index_B: Tensor, seed: int, view: int, num_draws: int) -> Tensor:
    """31-bit integers (num_draws, B): a counter-based generator (the finaliser of SplitMix64) on its coordinates.

    torch's own generators give numbers by position in a batch, and others on each device; a hash gives them by index.
    """
    state = index_B
    for coordinate in (seed, view):
        state = _mix(state + _wrap((coordinate + 1) * _GOLDEN))
    number_D1 = torch.arange(1, num_draws + 1, device=index_B.device)[:, None]
    return _shift(_mix(state + number_D1 * _GOLDEN), 33)


def _mix(state: Tensor) -> Tensor:
    state = (state ^ _shift(state, 30)) * _MIX_1
    state = (state ^ _shift(state, 27)) * _MIX_2
    return state ^ _shift(state, 31)


def _shift(state: Tensor, bits: int) -> Tensor:
    # A logical shift: torch's >> on int64 keeps the sign.
    return (state >> bits) & ((1 << (64 - bits)) - 1)


def _wrap(number: int) -> int:
    return (number + 2**63) % 2**64 - 2**63
