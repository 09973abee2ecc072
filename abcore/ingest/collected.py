"""Images as they come out of an upload, gathered by split until all are known to fit together."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from abcore.data.dataset import Split
from abcore.ingest.images import Pixels, resize
from abcore.ingest.labelling import Labelling
from abcore.specs.refusals import Problem, Refusal

SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""What a split may be called in an upload, and what it is called here."""

_LISTED = 10


@dataclass(frozen=True)
class Collected:
    """What a reader found: splits, names of the classes, and the (height, width) that images had as they came."""

    splits: dict[str, Split]
    classes: tuple[str, ...]
    found_sizes: Counter[tuple[int, int]]
    warnings: tuple[Problem, ...] = ()


@dataclass
class _Gathering:
    pixels: bytearray = field(default_factory=bytearray)
    labels: list[int] = field(default_factory=list)


class Collection:
    """Equal-sized images by split. Grey ones become RGB as soon as one image has colour.

    With `image_size` the middle square of each is scaled to that side. Pixels are gathered in one growing buffer a
    split, which then becomes the tensor without a copy.
    """

    def __init__(self, most_bytes: int, image_size: int | None) -> None:
        self._most_bytes = most_bytes
        self._image_size = image_size
        self._gatherings: dict[str, _Gathering] = {}
        self._sizes: Counter[tuple[int, int]] = Counter()
        self._shape = (0, 0)
        self._channels = 1

    def add(self, split: str, label: int, pixels: Pixels) -> None:
        """Take one image (H, W, C) uint8, as it was found.

        Raises:
            Refusal: `dataset.too_large`.
        """
        self._sizes[pixels.shape[:2]] += 1
        if self._image_size is not None:
            pixels = resize(pixels, self._image_size)
        elif len(self._sizes) > 1:
            return  # refused in the end, with all sizes; until then only counting matters
        height, width, channels = pixels.shape
        self._shape = height, width
        if channels > self._channels:
            self._colour()
        gathering = self._gatherings.setdefault(split, _Gathering())
        planes = np.broadcast_to(pixels.transpose(2, 0, 1), (self._channels, height, width))
        gathering.pixels += planes.tobytes()
        gathering.labels.append(label)
        if sum(len(other.pixels) for other in self._gatherings.values()) > self._most_bytes:
            raise too_large(self._most_bytes)

    def settled(self, labelling: Labelling, warnings: tuple[Problem, ...] = ()) -> Collected:
        """Return what was gathered, its labels settled.

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
        if len(self._sizes) > 1 and self._image_size is None:
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
        gathered = {name: self._split(gathering) for name, gathering in self._gatherings.items()}
        splits, classes = labelling.settle(gathered)
        return Collected(splits, classes, self._sizes, warnings)

    def _split(self, gathering: _Gathering) -> Split:
        flat: Tensor = torch.frombuffer(gathering.pixels, dtype=torch.uint8)
        return Split(
            flat.view(-1, self._channels, *self._shape), torch.tensor(gathering.labels, dtype=torch.int64)
        )

    def _colour(self) -> None:
        height, width = self._shape
        for gathering in self._gatherings.values():
            grey = np.frombuffer(gathering.pixels, dtype=np.uint8).reshape(-1, 1, height, width)
            gathering.pixels = bytearray(np.repeat(grey, 3, axis=1).tobytes())
        self._channels = 3


def ignored_warning(ignored: list[str], what: str) -> tuple[Problem, ...]:
    """Say which files of an archive were passed over, if any; `what` says what they are not."""
    if not ignored:
        return ()
    return (
        Problem(
            code="dataset.ignored_files",
            message=f"{len(ignored)} files are no {what} and were ignored",
            where=f"archive:{ignored[0]}",
            value=ignored[:_LISTED],
            hint="Nothing need be done, unless they were meant to be read.",
        ),
    )


def too_large(most_bytes: int) -> Refusal:
    """Say that an upload decodes to more than is accepted."""
    return Refusal(
        "dataset.too_large",
        f"the decoded images take more than {most_bytes:,} bytes",
        where="dataset",
        value=most_bytes,
        hint="Give `image_size` to make the images smaller, or send fewer.",
    )
