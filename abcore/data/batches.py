"""Batches on the training device: uint8 pixels in, augmented and normalised float32 images out.

Pixels cross to the device as bytes, a quarter of their float size; everything else happens there, a batch at a time.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from abcore.data.augmentation import augment
from abcore.data.dataset import Split
from abcore.specs.architectures import Normalization
from abcore.specs.recipes import Augmentation, num_batches

EVALUATION_BATCH_SIZE = 256

BYTES_AT_ONCE = 32 * 2**20
"""Float images that a GPU is given in one go: it augments a thousand small ones as fast as Python tells it to."""


class View(NamedTuple):
    """One look at all images of a split: the augmented one of this number, or, without a number, as they are."""

    split: str
    number: int | None = None


class Batch(NamedTuple):
    """Some images of a view.

    Attributes:
        images: images_BCHW, float32, on the training device.
        labels: labels_B, int64, there too.
        indices: index_B, int64, on the CPU: each image's place in its split.
        view: what they were looked at through.
        share: of the mean over a batch that several processes compute; 1 where one has all of it.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    view: View
    share: float = 1.0


def _whole(index_B: Tensor) -> tuple[Tensor, float]:
    return index_B, 1.0


class Feed:
    """A dataset's images as batches on the training device."""

    def __init__(
        self,
        splits: Mapping[str, Split],
        *,
        device: torch.device,
        normalization: Normalization,
        augmentation: Augmentation,
        view_seed: int,
        memory_format: torch.memory_format = torch.contiguous_format,
        evaluation_batch_size: int = EVALUATION_BATCH_SIZE,
    ) -> None:
        """Feed from `splits`, uint8 on the CPU.

        Args:
            splits: by name.
            device: where batches are wanted.
            normalization: one mean and standard deviation a channel.
            augmentation: what a numbered view may do to an image.
            view_seed: of what augmentation draws.
            memory_format: in which batches lie.
            evaluation_batch_size: images of a batch of `in_order`.
        """
        self.evaluation_batch_size = evaluation_batch_size
        self._splits = splits
        self._device = device
        self._normalise = Normalise(normalization, device)
        self._augmentation = augmentation
        self._view_seed = view_seed
        self._memory_format = memory_format

    def shuffled(
        self,
        view: View,
        *,
        batch_size: int,
        order_seed: int,
        start_step: int = 0,
        share: Callable[[Tensor], tuple[Tensor, float]] = _whole,
    ) -> Iterator[Batch]:
        """Yield one epoch's batches of `batch_size` in the order of `order_seed`, from its step `start_step` on.

        `share` takes the indices of a batch, and returns those of this process and their share of the mean.
        """
        num_images = len(self._splits[view.split])
        order_N = torch.randperm(num_images, generator=torch.Generator().manual_seed(order_seed))
        steps = range(start_step, num_batches(num_images, batch_size))
        together = self._batches_at_once(view.split, batch_size)
        for first in range(0, len(steps), together):
            parts = [
                share(order_N[step * batch_size : (step + 1) * batch_size])
                for step in steps[first : first + together]
            ]
            all_of_them = self._batch(view, torch.cat([index_B for index_B, _ in parts]))
            yield from _cut(all_of_them, parts)

    def in_order(self, view: View, most_images: int | None = None) -> Iterator[Batch]:
        """Yield all images of a view in their split's order, or `most_images` of them evenly spread over it."""
        num_images = len(self._splits[view.split])
        index_N = torch.arange(num_images)
        if most_images is not None and most_images < num_images:
            index_N = torch.arange(most_images) * num_images // most_images
        for index_B in torch.split(index_N, self.evaluation_batch_size):
            yield self._batch(view, index_B)

    def _batches_at_once(self, split: str, batch_size: int) -> int:
        if self._device.type == "cpu":
            return 1
        image_bytes = 4 * self._splits[split].images[0].numel()
        return max(1, BYTES_AT_ONCE // (image_bytes * batch_size))

    def _batch(self, view: View, index_B: Tensor) -> Batch:
        split, device = self._splits[view.split], self._device
        images_BCHW, labels_B = split.images.index_select(0, index_B), split.labels.index_select(0, index_B)
        if device.type == "cuda":
            # Only from pinned memory is a copy to the device asynchronous.
            images_BCHW, labels_B = images_BCHW.pin_memory(), labels_B.pin_memory()
        images_BCHW, labels_B = (
            images_BCHW.to(device, non_blocking=True),
            labels_B.to(device, non_blocking=True),
        )
        if view.number is not None:
            images_BCHW = augment(
                images_BCHW, index_B.to(device), self._augmentation, seed=self._view_seed, view=view.number
            )
        images_BCHW = self._normalise(images_BCHW).contiguous(memory_format=self._memory_format)
        return Batch(images_BCHW, labels_B, index_B, view)


def _cut(batches: Batch, parts: Sequence[tuple[Tensor, float]]) -> Iterator[Batch]:
    """One batch after the other, of those that were made together; `parts` are the indices and the share of each."""
    sizes = [len(index_B) for index_B, _ in parts]
    columns = (torch.split(column, sizes) for column in (batches.images, batches.labels, batches.indices))
    for (images, labels, indices), (_, share) in zip(zip(*columns, strict=True), parts, strict=True):
        yield batches._replace(images=images, labels=labels, indices=indices, share=share)


class Normalise:
    """uint8 -> float32: `(pixel / 255 - mean) / std`, as one multiplication and one addition."""

    def __init__(self, normalization: Normalization, device: torch.device) -> None:
        mean_C11 = torch.tensor(normalization.mean, dtype=torch.float64).view(-1, 1, 1)
        std_C11 = torch.tensor(normalization.std, dtype=torch.float64).view(-1, 1, 1)
        self._scale_C11 = (1 / (255 * std_C11)).float().to(device)
        self._offset_C11 = (-mean_C11 / std_C11).float().to(device)

    def __call__(self, images_BCHW: Tensor) -> Tensor:
        return images_BCHW.float().mul_(self._scale_C11).add_(self._offset_C11)
