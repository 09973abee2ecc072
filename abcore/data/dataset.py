"""A verified dataset: uint8 images and int64 labels by split, in one memory-mapped safetensors file.

Tensors are named `{split}_images` (N, C, H, W) and `{split}_labels` (N,); the metadata's `report` is a `DatasetReport`.
Shapes: N images, C channels, H height, W width.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from abcore.specs.reports import DatasetReport

SPLITS = ("train", "val", "test")
"""The names a split may have. `train` is always there, and at least one of the others."""


@dataclass(frozen=True)
class Split:
    """Images (N, C, H, W) uint8 and their labels (N,) int64, as class indices."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return self.images.shape[0]


@dataclass(frozen=True)
class ImageDataset:
    """All splits of a dataset and what verification found in it."""

    splits: Mapping[str, Split]
    report: DatasetReport

    @property
    def evaluation_split(self) -> str:
        """The split on which training is followed: `val`, so that `test` stays unseen, or `test` where it is alone."""
        return "val" if "val" in self.splits else "test"

    @property
    def held_out(self) -> tuple[str, ...]:
        """The splits that nothing is trained on."""
        return tuple(name for name in self.splits if name != "train")


def save_dataset(path: Path, dataset: ImageDataset) -> None:
    """Write a dataset as one file."""
    tensors = {}
    for name, split in dataset.splits.items():
        tensors[f"{name}_images"] = split.images.contiguous()
        tensors[f"{name}_labels"] = split.labels.contiguous()
    save_file(tensors, path, metadata={"report": dataset.report.model_dump_json()})


def load_dataset(path: Path) -> ImageDataset:
    """Map a dataset into memory; pages are read as they are used.

    The file is one that verification wrote: its shapes and dtypes are not checked again.
    """
    with safe_open(path, framework="pt") as file:
        report = DatasetReport.model_validate_json(file.metadata()["report"])
        splits = {
            name: Split(file.get_tensor(f"{name}_images"), file.get_tensor(f"{name}_labels"))
            for name in SPLITS
            if name in report.splits
        }
    return ImageDataset(splits, report)
