"""Images as they come out of an upload, gathered by split until all are known to fit together."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from abcore.data.dataset import Split
from abcore.ingest.images import Pixels
from abcore.specs.refusals import Refusal

SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""What a split may be called in an upload, and what it is called here."""


@dataclass
class _Gathering:
    pixels: bytearray = field(default_factory=bytearray)
    labels: list[int] = field(default_factory=list)


class Collection:
    """Equal-sized images by split. Grey ones become RGB as soon as one image has colour.

    Pixels are gathered in one growing buffer a split, which then becomes the tensor without a copy.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._gatherings: dict[str, _Gathering] = {}
        self._sizes: Counter[tuple[int, int]] = Counter()
        self._channels = 1

    def add(self, split: str, label: int, pixels: Pixels) -> None:
        """Take one image (H, W, C) uint8.

        Raises:
            Refusal: `dataset.too_large`.
        """
        height, width, channels = pixels.shape
        self._sizes[height, width] += 1
        if len(self._sizes) > 1:
            return  # refused in the end, with all sizes; until then only counting matters
        if channels > self._channels:
            self._colour()
        gathering = self._gatherings.setdefault(split, _Gathering())
        planes = np.broadcast_to(pixels.transpose(2, 0, 1), (self._channels, height, width))
        gathering.pixels += planes.tobytes()
        gathering.labels.append(label)
        if sum(len(other.pixels) for other in self._gatherings.values()) > self._most_bytes:
            raise too_large(self._most_bytes)

    def splits(self) -> dict[str, Split]:
        """Return what was gathered.

        Raises:
            Refusal: `dataset.empty`, `dataset.no_train`, `dataset.mixed_sizes`.
        """
        if not self._sizes:
            raise Refusal(
                "dataset.empty",
                "the upload holds no image",
                where="dataset",
                hint="Send at least two classes of images in a split called `train`.",
            )
        if len(self._sizes) > 1:
            sizes = ", ".join(f"{w}x{h} ({n})" for (h, w), n in self._sizes.most_common(5))
            raise Refusal(
                "dataset.mixed_sizes",
                f"the images have {len(self._sizes)} different sizes: {sizes}{', ...' if len(self._sizes) > 5 else ''}",
                where="image_size",
                hint="Create the dataset with `image_size`: images are then scaled and cropped to that square.",
            )
        if "train" not in self._gatherings:
            raise Refusal(
                "dataset.no_train",
                f"there is no training split; found: {', '.join(sorted(self._gatherings))}",
                where="dataset",
                allowed=("train", "val", "test"),
                hint="Name one split `train`.",
            )
        (size,) = self._sizes
        return {name: self._split(gathering, size) for name, gathering in self._gatherings.items()}

    def _split(self, gathering: _Gathering, size: tuple[int, int]) -> Split:
        flat: Tensor = torch.frombuffer(gathering.pixels, dtype=torch.uint8)
        return Split(flat.view(-1, self._channels, *size), torch.tensor(gathering.labels, dtype=torch.int64))

    def _colour(self) -> None:
        ((height, width),) = self._sizes
        for gathering in self._gatherings.values():
            grey = np.frombuffer(gathering.pixels, dtype=np.uint8).reshape(-1, 1, height, width)
            gathering.pixels = bytearray(np.repeat(grey, 3, axis=1).tobytes())
        self._channels = 3


def too_large(most_bytes: int) -> Refusal:
    """Say that an upload decodes to more than is accepted."""
    return Refusal(
        "dataset.too_large",
        f"the decoded images take more than {most_bytes:,} bytes",
        where="dataset",
        value=most_bytes,
        hint="Give `image_size` to make the images smaller, or send fewer.",
    )
