"""WebDataset archives: what `TarWriter` writes is read as it is meant, and what is no sample is named."""

import json
from typing import Any

import pytest

from abcore.data.dataset import load_dataset


def _samples(forge: Any, extension: str = "cls", folder: str = "", count: int = 8) -> dict[str, bytes]:
    files = {}
    for i in range(count):
        label: Any = i % 2
        files[f"{folder}{i:06d}.png"] = forge.png(i)
        files[f"{folder}{i:06d}.{extension}"] = json.dumps(
            {"label": label} if extension == "json" else label
        ).encode()
    return files


@pytest.mark.parametrize("packing", ["tar", "tar_gz", "zip"])
@pytest.mark.parametrize("extension", ["cls", "json"])
def test_images_meet_their_labels(forge: Any, room: Any, packing: str, extension: str) -> None:
    files = _samples(forge, extension) | _samples(forge, extension, "val/", 2)
    report = room.accept_dataset(getattr(forge, packing)(files))
    assert (report.format, report.classes) == ("webdataset", ("0", "1"))
    assert {name: split.num_images for name, split in report.splits.items()} == {"train": 8, "val": 2}
    train = load_dataset(room.outputs / "dataset.safetensors").splits["train"]
    from abcore.ingest.images import decode

    for image, label, i in zip(train.images, train.labels, range(8), strict=True):
        assert label == i % 2
        assert image.numpy().tobytes() == decode(forge.png(i)).tobytes()


def test_labels_that_are_names_are_numbered_as_sorted(forge: Any, room: Any) -> None:
    files = {}
    for i, name in enumerate(["zebra", "ant", "zebra", "ant", "mole", "mole"]):
        files |= {f"{i}.jpg": forge.png(i, format="JPEG"), f"{i}.json": json.dumps({"cls": name}).encode()}
    report = room.accept_dataset(forge.tar(files), holdout_fraction=0.5)
    assert report.classes == ("ant", "mole", "zebra")
    labels = load_dataset(room.outputs / "dataset.safetensors").splits["train"].labels
    assert sorted(labels.tolist()) == [0, 1, 2]


def test_the_label_may_come_first_and_other_parts_are_passed_over(forge: Any, room: Any) -> None:
    files = {}
    for name, body in sorted(_samples(forge).items()):
        files[name] = body
        if name.endswith("png"):
            files[name.replace("png", "txt")] = b"a caption"
            files[name.replace("png", "pyd")] = b"\x80\x04a pickle, which is not opened"
    report = room.accept_dataset(forge.tar(files))
    assert report.splits["train"].num_images + report.splits["test"].num_images == 8
    (warning,) = [w for w in report.warnings if w.code == "dataset.ignored_files"]
    assert warning.message.startswith("16 files")


def test_json_of_other_things_beside_a_cls_is_passed_over(forge: Any, room: Any) -> None:
    files = {}
    for name, body in _samples(forge).items():
        files |= {name: body, name.rpartition(".")[0] + ".json": b'{"width": 8}'}
    assert room.accept_dataset(forge.tar(dict(sorted(files.items())))).format == "webdataset"
