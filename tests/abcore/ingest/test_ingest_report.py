"""What a report says of a dataset: counts, measures, copies, and each warning where there is cause and only there."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from abcore.specs.reports import DatasetReport


def _warnings(report: DatasetReport) -> dict[str, Any]:
    return {warning.code: warning for warning in report.warnings}


def _enough(forge: Any, **more: bytes) -> dict[str, bytes]:
    """So many images that nothing is warned of."""
    return dict(forge.folder(train=10, test=50)) | more


def test_a_dataset_without_fault_gets_no_warning(forge: Any, room: Any) -> None:
    report = room.accept_dataset(forge.zip(_enough(forge)))
    assert report.warnings == ()
    assert report.imbalance == 1
    assert report.duplicates.within == {"train": 0, "test": 0}
    assert report.duplicates.across == {"train+test": 0}
    assert report.duplicates.examples == ()


def test_every_split_is_measured(forge: Any, room: Any) -> None:
    images = np.zeros((4, 8, 8, 3), np.uint8)
    images[:2, :, :4, 0] = 255
    report = room.accept_dataset(
        forge.npz(train_images=images[:2], train_labels=[0, 1], test_images=images[2:], test_labels=[0, 1])
    )
    assert report.splits["train"].mean == (0.5, 0, 0)
    assert report.splits["train"].std == (0.5, 0, 0)
    assert report.splits["test"].mean == (0, 0, 0)
    assert report.normalization.mean == (0.5, 0, 0)
    assert report.normalization.std == (0.5, 1e-3, 1e-3)


def test_sizes_are_those_that_images_came_with(forge: Any, room: Any) -> None:
    files = forge.folder(train=3, test=0, size=(20, 10)) | {"test/cat/a.png": forge.png(90, (6, 12))}
    report = room.accept_dataset(forge.zip(files), image_size=8)
    assert [(size.width, size.height, size.num_images) for size in report.found_sizes] == [
        (20, 10, 6),
        (6, 12, 1),
    ]
    assert report.num_found_sizes == 2
    assert (report.image.width, report.image.height) == (8, 8)
    enlarged = _warnings(report)["dataset.enlarged"]
    assert (enlarged.where, enlarged.message[:8]) == ("image_size", "1 images")


def test_classes_that_are_missing_small_or_outnumbered_are_warned_of(forge: Any, room: Any) -> None:
    files = forge.folder(train=1, val=1, test=1) | {
        f"train/cat/more{i}.png": forge.png(1000 + i) for i in range(12)
    }
    del files["val/dog/0.png"]
    warnings = _warnings(room.accept_dataset(forge.zip(files)))
    assert set(warnings) == {
        f"dataset.{x}" for x in ("imbalance", "class_missing", "tiny_classes", "small_split")
    }
    told = {code: (warning.where, warning.value) for code, warning in warnings.items()}
    assert told["dataset.imbalance"] == ("dataset:train", [13, 1])
    assert told["dataset.class_missing"] == ("dataset:val", ["dog"])
    assert told["dataset.tiny_classes"] == ("dataset:train", ["dog"])
    assert told["dataset.small_split"] == ("dataset:test", 2)
    assert all(warning.hint for warning in warnings.values())


def test_copies_within_a_split_across_splits_and_under_two_labels_are_told_apart(
    forge: Any, room: Any
) -> None:
    files = _enough(forge)
    files["test/cat/leaked.png"] = files["train/cat/0.png"]
    files["train/dog/again.png"] = files["train/dog/again2.png"] = files["train/dog/3.png"]
    files["train/cat/wrong.png"] = files["train/dog/5.png"]
    report = room.accept_dataset(forge.zip(files))
    found = report.duplicates
    assert (found.within, found.across, found.other_label) == (
        {"train": 3, "test": 0},
        {"train+test": 1},
        1,
    )
    conflict, leak = found.examples
    assert {place.label for place in conflict} == {0, 1}
    assert [place.split for place in leak] == ["train", "test"]
    warnings = _warnings(report)
    assert {code: warning.where for code, warning in warnings.items()} == {
        "dataset.duplicates": "dataset:test",
        "dataset.repeated": "dataset:train",
        "dataset.other_label": "dataset",
    }


def test_an_example_names_the_images_that_are_equal(forge: Any, room: Any) -> None:
    from abcore.data.dataset import load_dataset

    files = _enough(forge)
    files["test/dog/leaked.png"] = files["train/dog/7.png"]
    ((first, second),) = room.accept_dataset(forge.tar(files)).duplicates.examples
    splits = load_dataset(room.outputs / "dataset.safetensors").splits
    assert splits[first.split].images[first.index].equal(splits[second.split].images[second.index])


@pytest.mark.parametrize(("amplitude", "warned"), [(0, True), (1, True), (40, False)])
def test_images_that_show_nothing_are_warned_of(forge: Any, room: Any, amplitude: int, warned: bool) -> None:
    pixels = 100 + amplitude * (np.indices((8, 8)).sum(0) % 2).astype(np.uint8)
    files = _enough(forge, **{"test/dog/flat.png": forge.image(Image.fromarray(pixels))})
    warnings = _warnings(room.accept_dataset(forge.zip(files)))
    assert ("dataset.blank_images" in warnings) == warned
    if warned:
        assert warnings["dataset.blank_images"].message.startswith("1 images of 'test'")


def test_the_sheet_shows_each_class_in_its_row(forge: Any, room: Any) -> None:
    images = np.zeros((6, 8, 8, 3), np.uint8)
    labels = np.array([2, 0, 1, 0, 1, 2])
    images[..., 0], images[..., 1] = 60 * labels[:, None, None], 200
    report = room.accept_dataset(forge.npz(images=images, labels=labels))
    sheet = report.samples
    assert (sheet.rows, sheet.tile_width, sheet.tile_height) == ((0, 1, 2), 10, 10)
    with Image.open(room.outputs / "samples.png") as image:
        assert image.size == (sheet.columns * 10, 30)
        assert [image.getpixel((4, 10 * row + 4)) for row in range(3)] == [(60 * n, 200, 0) for n in range(3)]


def test_of_many_classes_and_large_images_the_sheet_stays_small(forge: Any, room: Any) -> None:
    images = np.zeros((100, 100, 50), np.uint8)
    report = room.accept_dataset(forge.npz(images=images, labels=np.arange(100) // 2))
    assert len(report.samples.rows) == 20
    assert report.samples.rows[-1] == 47
    assert (report.samples.tile_width, report.samples.tile_height) == (34, 66)
