"""Arrays that are pickled, lie about their size, or are no images: each is refused by name."""

import gzip
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

IMAGES = np.arange(4 * 64, dtype=np.uint8).reshape(4, 8, 8)
LABELS = np.array([0, 1, 0, 1])


def _arrays(**changes: Any) -> Callable[[Any], bytes]:
    return lambda forge: forge.npz(**({"images": IMAGES, "labels": LABELS} | changes))


def _header(header: str, body: bytes = b"") -> Callable[[Any], bytes]:
    return lambda forge: forge.zip({"images.npy": forge.npy(header, body)})


BAD_ARRAYS: dict[str, tuple[Callable[[Any], bytes], str]] = {
    "labels that are pickled": (_arrays(labels=np.array([{}, 1, 2, 3], dtype=object)), "npz.bad_array"),
    "images that are pickled": (_arrays(images=np.array([{}, 1], dtype=object)), "npz.bad_array"),
    "a field that is pickled": (
        _arrays(labels=np.zeros(4, dtype=[("a", "i8"), ("b", "O")])),
        "npz.bad_array",
    ),
    "floats": (_arrays(images=IMAGES / 255), "dataset.not_uint8"),
    "sixteen bits": (_arrays(images=IMAGES.astype(np.uint16)), "dataset.not_uint8"),
    "flat images": (_arrays(images=IMAGES.reshape(4, 64)), "dataset.shape"),
    "four channels": (_arrays(images=np.zeros((4, 8, 8, 4), np.uint8)), "dataset.shape"),
    "images without pixels": (_arrays(images=np.zeros((4, 0, 8), np.uint8)), "dataset.shape"),
    "channels without pixels": (_arrays(images=np.zeros((4, 3, 0, 0), np.uint8)), "dataset.shape"),
    "pixels without rows": (_arrays(images=np.zeros((4, 0, 8, 3), np.uint8)), "dataset.shape"),
    "no images": (_arrays(images=IMAGES[:0], labels=LABELS[:0]), "dataset.empty"),
    "labels below zero": (_arrays(labels=LABELS - 1), "dataset.labels"),
    "labels in the millions": (_arrays(labels=LABELS * 10**6), "dataset.labels"),
    "labels of 2^63": (_arrays(labels=LABELS.astype(np.uint64) * np.uint64(2**63)), "dataset.labels"),
    "one-hot labels": (_arrays(labels=np.eye(4, 2, dtype=np.int64)), "dataset.labels"),
    "labels that are floats": (_arrays(labels=LABELS.astype(np.float32)), "dataset.labels"),
    "fewer labels than images": (_arrays(labels=LABELS[:3]), "dataset.labels"),
    "a class without images": (_arrays(labels=LABELS * 2), "dataset.class_without_training_images"),
    "one class": (_arrays(labels=LABELS * 0), "dataset.one_class"),
    "too few class names": (_arrays(classes=["cat"]), "npz.bad_array"),
    "class names twice": (_arrays(classes=["cat", "cat"]), "npz.bad_array"),
    "class names that are numbers": (_arrays(classes=[1, 2]), "npz.bad_array"),
    "class names that cannot be written": (_arrays(classes=["cat", "\ud800"]), "archive.unreadable_name"),
    "unknown names": (lambda forge: forge.npz(pictures=IMAGES, kinds=LABELS), "npz.unknown_names"),
    "no array": (lambda forge: forge.zip({"images.npy": b""}), "npz.bad_array"),
    "a header that is a program": (_header("__import__('os').system('true')"), "npz.bad_array"),
    "a header of brackets": (_header("(" * 4000), "npz.bad_array"),
    "a header of minus signs": (_header("-" * 4000 + "1"), "npz.bad_array"),
    "a header of 60 kB": (_header("{" + " " * 60_000 + "}"), "npz.bad_array"),
    "a shape of terabytes": (
        _header("{'descr': '|u1', 'fortran_order': False, 'shape': (10**6, 10**6)}", b"x"),
        "npz.bad_array",
    ),
    "a shape beyond its bytes": (
        _header("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 1000, 1000)}", b"x"),
        "npz.bad_array",
    ),
    "a shape below zero": (
        _header("{'descr': '|u1', 'fortran_order': False, 'shape': (-2, -3)}", b"x" * 6),
        "npz.bad_array",
    ),
    "a dtype that is none": (
        _header("{'descr': 'nonsense', 'fortran_order': False, 'shape': (1,)}", b"x"),
        "npz.bad_array",
    ),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_arrays_are_refused(forge: Any, room: Any, case: str) -> None:
    make, code = BAD_ARRAYS[case]
    problem = room.refuse_dataset(make(forge))
    assert problem.code == code
    assert ("pickled Python objects, which are never opened" in problem.message) == ("pickled" in case)


@pytest.mark.parametrize("rank", [2, 3])
def test_arrays_of_more_bytes_than_accepted_are_not_read(forge: Any, room: Any, rank: int) -> None:
    """Zeros compress a thousandfold; the sum over all arrays is what counts."""
    most = 10_000
    files = {f"{name}.npy": _npy_of_zeros(forge, 9_000) for name in ("images", "x_test")[: rank - 1]}
    files["images.npy"] = _npy_of_zeros(forge, 9_000 if rank == 3 else 20_000)
    upload = forge.zip(files, zipfile.ZIP_DEFLATED)
    assert room.refuse_dataset(upload, max_bytes=most).code == "dataset.too_large"


def _npy_of_zeros(forge: Any, size: int) -> bytes:
    return bytes(
        forge.npy(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({size}, 1, 1)}}", bytes(size))
    )


def _idx_files(forge: Any, **changes: Any) -> bytes:
    files = {
        "train-images-idx3-ubyte": forge.idx(IMAGES),
        "train-labels-idx1-ubyte": forge.idx(LABELS.astype(np.uint8)),
        "t10k-images-idx3-ubyte": forge.idx(IMAGES),
        "t10k-labels-idx1-ubyte": forge.idx(LABELS.astype(np.uint8)),
    }
    for name, body in changes.items():
        key = name.replace("_", "-")
        if body is None:
            del files[key]
        else:
            files[key] = body
    return bytes(forge.zip(files))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00\x00\x08",
        b"\x00\x00\x08\x03\x00\x00",
        b"\x00\x00\x0d\x03" + struct.pack(">III", 1, 1, 1) + b"x",
        b"\x00\x00\x08\x03" + struct.pack(">III", 2**32 - 1, 2**32 - 1, 2**32 - 1) + b"x",
        b"\x00\x00\x08\x03" + struct.pack(">III", 4, 8, 9) + bytes(4 * 64),
        b"\x00\x00\x08\x03" + struct.pack(">III", 4, 8, 7) + bytes(4 * 64),
        b"\x00\x00\x08\xff" + bytes(2000),
        b"\x1f\x8b\x08\x00junk",
        gzip.compress(b"\x00\x00\x08\x03" + struct.pack(">III", 4, 8, 8) + bytes(4 * 64))[:-12],
    ],
    ids=[
        "empty",
        "cut magic",
        "cut shape",
        "floats",
        "2^96",
        "too short",
        "too long",
        "rank 255",
        "no gzip",
        "cut gzip",
    ],
)
def test_an_idx_file_that_lies_is_refused_by_name(forge: Any, room: Any, body: bytes) -> None:
    problem = room.refuse_dataset(_idx_files(forge, train_images_idx3_ubyte=body))
    assert (problem.code, problem.where) == ("idx.bad_array", "idx:train-images-idx3-ubyte")


def test_a_gzip_bomb_in_an_idx_file_is_refused(forge: Any, room: Any) -> None:
    bomb = gzip.compress(bytes(30 * 2**20))
    upload = _idx_files(forge, train_images_idx3_ubyte=bomb)
    assert room.refuse_dataset(upload, max_bytes=2**20).code == "dataset.too_large"


def test_an_idx_file_larger_than_accepted_is_not_read(forge: Any, room: Any) -> None:
    assert room.refuse_dataset(_idx_files(forge), max_bytes=100).code == "dataset.too_large"


@pytest.mark.parametrize(
    ("absent", "said"),
    [("train_labels_idx1_ubyte", "train labels"), ("t10k_images_idx3_ubyte", "test images")],
)
def test_a_missing_idx_file_is_named(forge: Any, room: Any, absent: str, said: str) -> None:
    problem = room.refuse_dataset(_idx_files(forge, **{absent: None}))
    assert (problem.code, said in problem.message) == ("idx.incomplete", True)


def test_two_idx_files_for_one_thing_are_refused(forge: Any, room: Any) -> None:
    again = forge.zip(
        {"a/train-images-idx3-ubyte": forge.idx(IMAGES), "b/train-images-idx3-ubyte": forge.idx(IMAGES)}
    )
    assert room.refuse_dataset(again).code == "idx.bad_array"
