"""Datasets that are good: each format, decoded to the pixels and labels that were packed, and reported on."""

import gzip
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from sklearn.datasets import load_digits

from abcore.data.dataset import ImageDataset, load_dataset

PACKINGS = ["zip", "tar", "tar_gz"]


def _written(room: Any) -> ImageDataset:
    return load_dataset(room.outputs / "dataset.safetensors")


def _images(dataset: ImageDataset, split: str, label: int) -> set[bytes]:
    """All images of one class, as bytes: sets do not care for order."""
    found = dataset.splits[split]
    return {bytes(image.numpy().tobytes()) for image in found.images[found.labels == label]}


def _told(report: Any) -> list[Any]:
    """The warnings, without those that every dataset of a test is too small to be spared."""
    small = ("dataset.small_split", "dataset.tiny_classes")
    return [warning for warning in report.warnings if warning.code not in small]


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("prefix", ["", "./", "pets/", "./pets/"])
def test_a_folder_of_classes_comes_back_pixel_by_pixel(
    forge: Any, room: Any, packing: str, prefix: str
) -> None:
    files = {prefix + name: body for name, body in forge.folder(train=4, val=1, test=2).items()}
    report = room.accept_dataset(getattr(forge, packing)(files))
    assert (report.format, report.classes, _told(report)) == ("imagefolder", ("cat", "dog"), [])
    assert {name: split.class_counts for name, split in report.splits.items()} == {
        "train": (4, 4),
        "val": (1, 1),
        "test": (2, 2),
    }
    dataset = _written(room)
    for split in report.splits:
        for label, name in enumerate(report.classes):
            packed = {
                np.asarray(Image.open(_stream(body))).tobytes()
                for path, body in files.items()
                if f"{split}/{name}/" in path
            }
            assert _images(dataset, split, label) == packed


def _stream(body: bytes) -> Any:
    import io

    return io.BytesIO(body)


def test_labels_follow_sorted_names_whatever_the_order_in_the_archive(forge: Any, room: Any) -> None:
    # An order of three that is not its own inverse, or numbering the wrong way round would go unseen.
    files = {
        f"{split}/{name}/1.png": forge.png(n) for n, name in enumerate("mza") for split in ("train", "val")
    }
    report = room.accept_dataset(forge.zip(files))
    assert report.classes == ("a", "m", "z")
    dataset = _written(room)
    for number, name in enumerate("mza"):
        pixels = np.asarray(Image.open(_stream(forge.png(number)))).tobytes()
        assert _images(dataset, "val", report.classes.index(name)) == {pixels}


@pytest.mark.parametrize("packing", PACKINGS)
def test_litter_of_operating_systems_is_passed_over(forge: Any, room: Any, packing: str) -> None:
    litter = {
        "__MACOSX/train/cat/._0.png": b"x",
        "train/cat/.DS_Store": b"x",
        "train/cat/._0.png": b"x",
        "train/Thumbs.db": b"x",
        "train/cat/Icon\r": b"",
        ".git/config": b"x",
    }
    report = room.accept_dataset(getattr(forge, packing)({**litter, **forge.folder()}))
    assert _told(report) == []


def test_files_that_are_no_images_are_ignored_with_a_warning(forge: Any, room: Any) -> None:
    report = room.accept_dataset(forge.zip({**forge.folder(), "README.md": b"hi", "train/list.txt": b""}))
    (warning,) = _told(report)
    assert (warning.code, warning.value) == ("dataset.ignored_files", ["README.md", "train/list.txt"])


def test_valid_and_validation_are_val(forge: Any, room: Any) -> None:
    files = forge.folder(train=2, val=0, test=0) | {
        "Valid/cat/1.png": forge.png(90),
        "Valid/dog/1.png": forge.png(91),
    }
    assert set(room.accept_dataset(forge.zip(files)).splits) == {"train", "val"}


@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_each_image_format_is_decoded_as_pillow_does(forge: Any, room: Any, format: str, mode: str) -> None:
    report = room.accept_dataset(forge.zip(forge.folder(mode=mode, format=format)))
    body = forge.folder(mode=mode, format=format)["test/dog/0.png"]
    expected = np.asarray(Image.open(_stream(body)).convert("L" if report.image.channels == 1 else "RGB"))
    expected = expected.reshape(8, 8, -1).transpose(2, 0, 1)
    assert expected.tobytes() in _images(_written(room), "test", 1)
    # GIF and WEBP have no grey: theirs is a palette, or RGB.
    assert (
        report.image.channels == (1 if mode == "L" and format not in ("GIF", "WEBP") else 3)
        or format == "GIF"
    )


@pytest.mark.parametrize(
    ("mode", "channels"), [("1", 1), ("L", 1), ("LA", 1), ("P", 3), ("RGBA", 3), ("RGB", 3)]
)
def test_modes_of_png_become_grey_or_rgb(forge: Any, room: Any, mode: str, channels: int) -> None:
    assert room.accept_dataset(forge.zip(forge.folder(mode=mode))).image.channels == channels


def test_sixteen_bits_are_scaled_and_not_clipped(forge: Any, room: Any) -> None:
    values = (np.arange(64, dtype=np.uint16) * 1024).reshape(8, 8)
    deep = forge.image(Image.fromarray(values))
    room.accept_dataset(forge.zip({**forge.folder(), "test/cat/deep.png": deep}))
    assert (values // 256).astype(np.uint8).tobytes() in _images(_written(room), "test", 0)


@pytest.mark.parametrize("coloured", ["train/cat/0.png", "train/dog/3.png", "test/dog/1.png"])
def test_one_image_in_colour_makes_all_rgb_and_grey_ones_keep_their_pixels(
    forge: Any, room: Any, coloured: str
) -> None:
    files = forge.folder() | {coloured: forge.png(7, mode="RGB")}
    report = room.accept_dataset(forge.zip(files))
    assert report.image.channels == 3
    dataset = _written(room)
    for path, body in files.items():
        split, name, _ = path.split("/")
        pixels = np.asarray(Image.open(_stream(body)).convert("RGB")).transpose(2, 0, 1)
        assert pixels.tobytes() in _images(dataset, split, report.classes.index(name))


@pytest.mark.parametrize("size", [(32, 8), (8, 32), (40, 20), (16, 16)])
def test_with_image_size_the_shorter_side_is_scaled_and_the_middle_kept(
    forge: Any, room: Any, size: tuple[int, int]
) -> None:
    """As torchvision's Resize and CenterCrop do, one after the other."""
    body = forge.png(5, size=size)
    report = room.accept_dataset(
        forge.zip({**forge.folder(size=(20, 10)), "test/cat/other.png": body}), image_size=16
    )
    assert (report.image.height, report.image.width) == (16, 16)
    width, height = (side * 16 // min(size) for side in size)
    scaled = Image.open(_stream(body)).resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - 16) // 2, (height - 16) // 2
    expected = np.asarray(scaled.crop((left, top, left + 16, top + 16))).astype(int)
    images = _written(room).splits["test"].images[:, 0].numpy()
    # Pillow rounds between its two passes, which takes some pixels to the next value.
    assert min(np.abs(image - expected).max() for image in images) <= 1


def test_a_line_of_pixels_is_no_bomb_when_it_is_scaled(forge: Any, room: Any) -> None:
    line = forge.image(Image.new("L", (1_000_000, 1), 9))
    room.accept_dataset(forge.zip({**forge.folder(), "train/cat/line.png": line}), image_size=1024)
    assert bytes([9]) * 1024**2 in _images(_written(room), "train", 0)


def _npz_names() -> list[tuple[str, ...]]:
    return [
        ("train_images", "train_labels", "test_images", "test_labels"),
        ("x_train", "y_train", "x_test", "y_test"),
        ("X_train", "y_train", "X_test", "y_test"),
        ("train_images", "train_labels", "val_images", "val_labels"),
        ("x_train", "y_train", "x_val", "y_val"),
    ]


@pytest.mark.parametrize("names", _npz_names())
def test_real_digits_as_npz_under_all_usual_names(forge: Any, room: Any, names: tuple[str, ...]) -> None:
    digits = load_digits()
    images, labels = (digits.images * 15).astype(np.uint8), digits.target
    arrays = (images[:1500], labels[:1500], images[1500:], labels[1500:])
    report = room.accept_dataset(forge.npz(**dict(zip(names, arrays, strict=True))))
    assert (report.format, report.classes) == ("npz", tuple("0123456789"))
    held_out = "val" if "val" in names[2] else "test"
    dataset = _written(room)
    for split, at in (("train", slice(0, 1500)), (held_out, slice(1500, None))):
        assert torch.equal(dataset.splits[split].images[:, 0], torch.from_numpy(images[at]))
        assert torch.equal(dataset.splits[split].labels, torch.from_numpy(labels[at]))
        assert report.splits[split].class_counts == tuple(np.bincount(labels[at]).tolist())
    pixels = images[:1500].astype(np.float64) / 255
    assert report.normalization.mean == pytest.approx((pixels.mean(),), abs=1e-12)
    assert report.normalization.std == pytest.approx((pixels.std(),), abs=1e-12)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    images=hnp.arrays(
        np.uint8,
        st.tuples(st.integers(2, 6), st.integers(4, 9), st.integers(4, 9), st.sampled_from([1, 3])),
    ),
    layout=st.sampled_from(["NHWC", "NCHW", "NHW"]),
    order=st.sampled_from(["C", "F"]),
    column=st.booleans(),
    compressed=st.booleans(),
)
def test_any_layout_of_an_npz_gives_the_same_images(
    forge: Any, room: Any, images: Any, layout: str, order: Any, column: bool, compressed: bool
) -> None:
    if layout == "NHW":
        images = images[..., :1]
    packed = {"NHWC": images, "NCHW": images.transpose(0, 3, 1, 2), "NHW": images[..., 0]}[layout]
    if layout == "NCHW" and packed.shape[3] in (1, 3):
        return
    labels = np.arange(len(images)) % 2
    room = type(room)(room.path.parent / str(len(list(room.path.parent.iterdir()))))
    upload = forge.npz(
        train_images=np.asarray(packed, order=order),
        train_labels=labels[:, None] if column else labels.astype(np.int16),
        test_images=packed,
        test_labels=labels,
    )
    if compressed:
        with zipfile.ZipFile(_stream(upload)) as archive:
            upload = forge.zip(
                {name: archive.read(name) for name in archive.namelist()}, zipfile.ZIP_DEFLATED
            )
    room.accept_dataset(upload)
    split = _written(room).splits["train"]
    assert torch.equal(split.images, torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    assert torch.equal(split.labels, torch.from_numpy(labels))


def test_an_npz_may_name_its_classes_and_hold_other_things(forge: Any, room: Any) -> None:
    images = np.arange(4 * 64, dtype=np.uint8).reshape(4, 8, 8)
    report = room.accept_dataset(
        forge.npz(
            images=images,
            labels=[0, 1, 1, 0],
            classes=["žába", "cat"],
            author=np.array({"a": 1}, dtype=object),
        )
    )
    assert report.classes == ("žába", "cat")


def test_an_npz_is_scaled_to_image_size(forge: Any, room: Any) -> None:
    images = np.full((4, 8, 8, 3), 7, dtype=np.uint8)
    images[:, 0, 0] = np.arange(4)[:, None]
    report = room.accept_dataset(forge.npz(images=images, labels=[0, 1, 0, 1]), image_size=32)
    assert (report.image.channels, report.image.height, report.image.width) == (3, 32, 32)


MNIST = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def _digits_idx(forge: Any) -> tuple[dict[str, bytes], Any, Any]:
    digits = load_digits()
    images, labels = (digits.images * 15).astype(np.uint8), digits.target.astype(np.uint8)
    arrays = (images[:1500], labels[:1500], images[1500:], labels[1500:])
    return {name: forge.idx(array) for name, array in zip(MNIST, arrays, strict=True)}, images, labels


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("gzipped", [True, False])
@pytest.mark.parametrize("prefix", ["", "MNIST/raw/", "emnist-digits-"])
def test_idx_files_in_any_packing(forge: Any, room: Any, packing: str, gzipped: bool, prefix: str) -> None:
    files, images, labels = _digits_idx(forge)
    pack: Callable[[bytes], bytes] = gzip.compress if gzipped else bytes
    named = {prefix + name + (".gz" if gzipped else ""): pack(body) for name, body in files.items()}
    report = room.accept_dataset(getattr(forge, packing)(named))
    assert (report.format, report.classes) == ("idx", tuple("0123456789"))
    dataset = _written(room)
    assert torch.equal(dataset.splits["train"].images[:, 0], torch.from_numpy(images[:1500]))
    assert torch.equal(dataset.splits["test"].labels, torch.from_numpy(labels[1500:]).long())


def test_without_val_and_test_a_share_of_every_class_is_held_out_the_same_each_time(
    forge: Any, room: Any, tmp_path: Path
) -> None:
    files = forge.folder(train=20, test=0)
    files = {name: body for name, body in files.items() if name != "train/dog/19.png"}
    reports, datasets = [], []
    for name in ("a", "b"):
        room = type(room)(tmp_path / name / "workspace")
        reports.append(room.accept_dataset(forge.zip(files), holdout_fraction=0.2))
        datasets.append(_written(room))
    assert reports[0] == reports[1]
    assert [warning.code for warning in _told(reports[0])] == ["dataset.held_out"]
    assert reports[0].splits["test"].class_counts == (4, 4)
    assert reports[0].splits["train"].class_counts == (16, 15)
    for label in (0, 1):
        train, test = (_images(datasets[0], split, label) for split in ("train", "test"))
        assert len(train | test) == len(train) + len(test)
        assert test == _images(datasets[1], "test", label)


@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_extreme_holdouts_leave_an_image_of_every_class_on_both_sides(
    forge: Any, room: Any, fraction: float
) -> None:
    report = room.accept_dataset(forge.zip(forge.folder(train=5, test=0)), holdout_fraction=fraction)
    for split in ("train", "test"):
        assert min(report.splits[split].class_counts) >= 1


def test_a_constant_channel_gets_a_standard_deviation_that_can_be_divided_by(forge: Any, room: Any) -> None:
    images = np.zeros((4, 8, 8, 3), dtype=np.uint8)
    images[:, 0, 0, 0] = np.arange(4)
    report = room.accept_dataset(forge.npz(images=images, labels=[0, 1, 0, 1]))
    assert report.normalization.std[1] == pytest.approx(1e-3)
