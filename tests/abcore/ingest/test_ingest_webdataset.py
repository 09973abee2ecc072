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


BAD = {
    "an image without a label": ({"000003.cls": None}, "webdataset.incomplete", "archive:000003"),
    "a label without an image": ({"000003.png": None}, "webdataset.incomplete", "archive:000003"),
    "files of a sample apart": (
        {"000003.cls": None, "000003 .x": b"", "000004.txt": b"", "000009.cls": b"1"},
        "webdataset.incomplete",
        "archive:000003",
    ),
    "a label of text": ({"000003.cls": b"cat"}, "webdataset.bad_label", "archive:000003.cls"),
    "a label of 5000 digits": ({"000003.cls": b"9" * 5000}, "webdataset.bad_label", "archive:000003.cls"),
    "a label below zero": ({"000003.cls": b"-1"}, "dataset.labels", "archive:000003.cls"),
    "a label in the millions": ({"000003.cls": b"9999999"}, "dataset.labels", "archive:000003.cls"),
    "a label of 100 kB": ({"000003.cls": b" " * 100_000}, "webdataset.bad_label", "archive:000003.cls"),
    "a label that is not UTF-8": ({"000003.cls": b"\xff"}, "webdataset.bad_label", "archive:000003.cls"),
    "two images": ({"000003.cls": b"1", "000003.jpg": b"x"}, "webdataset.several_images", "archive:000003.png"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_sample_is_named(forge: Any, room: Any, case: str) -> None:
    changes, code, where = BAD[case]
    files = _samples(forge) | {name: body for name, body in changes.items() if body is not None}
    for name in [name for name, body in changes.items() if body is None]:
        del files[name]
    problem = room.refuse_dataset(forge.tar(dict(sorted(files.items()))))
    assert (problem.code, problem.where) == (code, where)


JSON = {
    "no JSON": b"{",
    "nested 100,000 deep": b"[" * 60_000,
    "no object": b"[1]",
    "a list for a label": b'{"label": [1]}',
    "true for a label": b'{"label": true}',
    "a fraction for a label": b'{"label": 0.5}',
    "a number of 5000 digits": b'{"label": ' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("case", JSON)
def test_json_that_holds_no_label_is_named(forge: Any, room: Any, case: str) -> None:
    problem = room.refuse_dataset(forge.tar(_samples(forge, "json") | {"000003.json": JSON[case]}))
    assert (problem.code, problem.where) == ("webdataset.bad_label", "archive:000003.json")


def test_names_among_numbers_are_refused(forge: Any, room: Any) -> None:
    problem = room.refuse_dataset(forge.tar(_samples(forge, "json") | {"000003.json": b'{"label": "cat"}'}))
    assert (problem.code, problem.where) == ("dataset.labels", "archive:000003.json")


def test_a_broken_image_is_named(forge: Any, room: Any) -> None:
    problem = room.refuse_dataset(forge.tar(_samples(forge) | {"000003.png": b"x"}))
    assert (problem.code, problem.where) == ("dataset.broken_images", "archive:000003.png")
