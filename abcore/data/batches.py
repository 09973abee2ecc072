"""Batches on the training device: uint8 pixels in, augmented and normalised float32 images out.

Pixels cross to the device as bytes, a quarter of their float size; everything else happens there, a batch at a time.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from abcore.data.augmentation import augment
from abcore.data.dataset import Split
from abcore.specs.architectures import Normalization
from abcore.specs.recipes import Augmentation, num_batches

EVALUATION_BATCH_SIZE = 256

Batch = tuple[Tensor, Tensor, Tensor]
"""images_BCHW float32, labels_B int64, index_B int64: each image's place in its split (on the CPU)."""


def batches(
    split: Split,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    device: torch.device,
    augmentation: Augmentation,
    normalization: Normalization,
    start_step: int = 0,
) -> Iterator[Batch]:
    """Yield one epoch's batches, from its step `start_step` on, in an order and with views that (seed, epoch) decide.

    Args:
        split: the images to draw from, each at most once.
        batch_size: images a batch.
        seed: the recipe's.
        epoch: counted over all phases, so that the second phase does not see the first one's order again.
        device: where batches are wanted.
        augmentation: random crop and flip.
        normalization: one mean and standard deviation a channel.
        start_step: batches of this epoch to leave out, because they were trained on before.
    """
    shuffler = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order_N = torch.randperm(len(split), generator=shuffler)
    normalise = _Normalise(normalization, device)
    for step in range(start_step, num_batches(len(split), batch_size)):
        index_B = order_N[step * batch_size : (step + 1) * batch_size]
        images_BCHW, labels_B = _fetch(split, index_B, device)
        views_BCHW = augment(images_BCHW, index_B.to(device), augmentation, seed=seed, epoch=epoch)
        yield normalise(views_BCHW), labels_B, index_B


def evaluation_batches(
    split: Split, device: torch.device, normalization: Normalization, most_images: int | None = None
) -> Iterator[Batch]:
    """Yield all images of a split in order, not augmented, or `most_images` of them evenly spread over it."""
    index_N = torch.arange(len(split))
    if most_images is not None and most_images < len(split):
        index_N = torch.arange(most_images) * len(split) // most_images
    normalise = _Normalise(normalization, device)
    for index_B in torch.split(index_N, EVALUATION_BATCH_SIZE):
        images_BCHW, labels_B = _fetch(split, index_B, device)
        yield normalise(images_BCHW), labels_B, index_B


def _fetch(split: Split, index_B: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    images_BCHW, labels_B = split.images.index_select(0, index_B), split.labels.index_select(0, index_B)
    if device.type == "cuda":
        # Only from pinned memory is a copy to the device asynchronous.
        images_BCHW, labels_B = images_BCHW.pin_memory(), labels_B.pin_memory()
    return images_BCHW.to(device, non_blocking=True), labels_B.to(device, non_blocking=True)


class _Normalise:
    """uint8 -> float32: `(pixel / 255 - mean) / std`, as one multiplication and one addition."""

    def __init__(self, normalization: Normalization, device: torch.device) -> None:
        mean_C11 = torch.tensor(normalization.mean, dtype=torch.float64).view(-1, 1, 1)
        std_C11 = torch.tensor(normalization.std, dtype=torch.float64).view(-1, 1, 1)
        self._scale_C11 = (1 / (255 * std_C11)).float().to(device)
        self._offset_C11 = (-mean_C11 / std_C11).float().to(device)

    def __call__(self, images_BCHW: Tensor) -> Tensor:
        return images_BCHW.float().mul_(self._scale_C11).add_(self._offset_C11)
