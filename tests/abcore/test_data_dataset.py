"""Datasets on disk: what is saved comes back, mapped and not copied."""

from pathlib import Path

import pytest
import torch

from abcore.data.dataset import ImageDataset, Split, load_dataset, save_dataset
from abcore.specs.architectures import ImageShape, Normalization
from abcore.specs.reports import DatasetReport, SplitReport


def _dataset(*names: str, num_images: int = 6) -> ImageDataset:
    splits = {
        name: Split(
            torch.randint(0, 256, (num_images, 3, 5, 7), dtype=torch.uint8), torch.arange(num_images) % 2
        )
        for name in names
    }
    report = DatasetReport(
        format="npz",
        image=ImageShape(channels=3, height=5, width=7),
        classes=("žába", "猫"),
        splits={name: SplitReport(num_images=num_images, class_counts=(3, 3)) for name in names},
        normalization=Normalization(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6)),
    )
    return ImageDataset(splits, report)


def test_a_dataset_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    saved = _dataset("train", "val", "test")
    save_dataset(tmp_path / "dataset.safetensors", saved)
    loaded = load_dataset(tmp_path / "dataset.safetensors")
    assert loaded.report == saved.report
    assert list(loaded.splits) == ["train", "val", "test"]
    for name, split in saved.splits.items():
        assert torch.equal(loaded.splits[name].images, split.images)
        assert torch.equal(loaded.splits[name].labels, split.labels)
        assert loaded.splits[name].images.dtype == torch.uint8
        assert loaded.splits[name].labels.dtype == torch.int64


def test_the_same_dataset_gives_the_same_bytes(tmp_path: Path) -> None:
    dataset = _dataset("train", "test")
    for name in ("a", "b"):
        save_dataset(tmp_path / name, dataset)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_images_are_mapped_and_not_read(tmp_path: Path) -> None:
    """Loading 60 MB must not cost 60 MB: pages belong to the file until they are looked at."""
    save_dataset(tmp_path / "dataset.safetensors", _dataset("train", "test", num_images=300_000))

    def anonymous_bytes() -> int:
        status = Path("/proc/self/status").read_text()
        return int(status.split("RssAnon:")[1].split()[0]) * 1024

    before = anonymous_bytes()
    loaded = load_dataset(tmp_path / "dataset.safetensors")
    assert anonymous_bytes() - before < 8 * 2**20
    assert loaded.splits["train"].images.shape == (300_000, 3, 5, 7)


@pytest.mark.parametrize(
    ("names", "expected"),
    [(("train", "val", "test"), "val"), (("train", "test"), "test"), (("train", "val"), "val")],
)
def test_training_is_followed_on_val_so_that_test_stays_unseen(names: tuple[str, ...], expected: str) -> None:
    assert _dataset(*names).evaluation_split == expected
