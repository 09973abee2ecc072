"""Feature maps among tensors: which dimension is which, and at what scale of the image."""

import math

from torch import Tensor


def octave(image_size: tuple[int, int], map_size: tuple[int, int]) -> int:
    """How often the resolution was halved, rounded: 0 at the image's own, 2 at a quarter of its height and width."""
    return round(math.log2(math.prod(image_size) / math.prod(map_size)) / 2)


def as_feature_map(tensor: Tensor, image_size: tuple[int, int], batch_size: int) -> Tensor | None:
    """View `tensor` as a batch of feature maps of an image, channels first; None where it is none.

    A feature map has about the image's proportions. Networks that keep channels last (ConvNeXt and Swin at their GELU)
    are told apart by that, and their maps are returned as permuted views.

    Args:
        tensor: any tensor of a forward pass.
        image_size: height and width of the images, in pixels.
        batch_size: number of images: windows and tokens of an image are not batches of maps.
    """
    if tensor.dim() != 4 or tensor.shape[0] != batch_size or tensor.numel() == 0:
        return None
    _, first, second, third = tensor.shape
    channels_first = _distortion(image_size, (second, third))
    channels_last = _distortion(image_size, (first, second))
    if min(channels_first, channels_last) >= 1:
        return None
    return tensor if channels_first <= channels_last else tensor.permute(0, 3, 1, 2)


def _distortion(image_size: tuple[int, int], map_size: tuple[int, int]) -> float:
    """By how many factors of two the proportions differ. Rounding in a tiny map stays below one."""
    rows, columns = (image / side for image, side in zip(image_size, map_size, strict=True))
    return abs(math.log2(rows / columns))
