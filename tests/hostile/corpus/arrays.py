"""Arrays that are pickled, lie about their size, or are no images: .npz and idx."""

import gzip
import pickle
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from hostile.case import Case, Make, family
from hostile.corpus.pickles import GADGETS
from plugins.forge import Forge

IMAGES = np.arange(4 * 64, dtype=np.uint8).reshape(4, 8, 8)
LABELS = np.array([0, 1, 0, 1])
BAD, LABEL, SHAPE = "npz.bad_array", "dataset.labels", "dataset.shape"
_IDX = "idx:train-images-idx3-ubyte"


def _arrays(**changes: Any) -> Make:
    return lambda forge: forge.npz(**({"images": IMAGES, "labels": LABELS} | changes))


def _header(header: str, body: bytes = b"", name: str = "images") -> Make:
    return lambda forge: forge.zip({f"{name}.npy": forge.npy(header, body)})


def _claim(shape: str, descr: str = "|u1", order: str = "False", body: bytes = b"x") -> Make:
    return _header(f"{{'descr': {descr!r}, 'fortran_order': {order}, 'shape': {shape}}}", body)


def _pickled(forge: Forge) -> bytes:
    """An object array whose pickle runs a command."""
    header = forge.npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}")
    return forge.zip({"images.npy": header + pickle.dumps([GADGETS["os.system"]])})


def _alone(forge: Forge) -> bytes:
    """A pickle under the name of an array: numpy.load would unpickle it."""
    return forge.zip({"images.npy": pickle.dumps(GADGETS["os.system"])})


def _classes_of_nothing(forge: Forge) -> bytes:
    """10^9 class names of no letters take no byte of the file, and gigabytes as a list."""
    header = "{'descr': '<U0', 'fortran_order': False, 'shape': (1000000000,)}"
    arrays = {"images.npy": IMAGES, "labels.npy": LABELS}
    files = {name: _npy(forge, array) for name, array in arrays.items()}
    return forge.zip(files | {"classes.npy": forge.npy(header)})


def _npy(forge: Forge, array: Any) -> bytes:
    return forge.npy(
        f"{{'descr': {array.dtype.str!r}, 'fortran_order': False, 'shape': {array.shape}}}", array.tobytes()
    )


def _other_version(forge: Forge) -> bytes:
    return forge.zip({"images.npy": b"\x93NUMPY\x09\x09" + bytes(99)})


def _header_length(forge: Forge) -> bytes:
    return forge.zip({"images.npy": b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1) + b"{}"})


def idx_files(forge: Forge) -> dict[str, bytes]:
    """The four idx files of a good dataset."""
    arrays = {"images-idx3": IMAGES, "labels-idx1": LABELS.astype(np.uint8)}
    return {
        f"{split}-{kind}-ubyte": forge.idx(array)
        for split in ("train", "t10k")
        for kind, array in arrays.items()
    }


def _idx(body: bytes) -> Make:
    return lambda forge: forge.zip(idx_files(forge) | {"train-images-idx3-ubyte": body})


def _without(absent: str) -> Make:
    return lambda forge: forge.zip({name: body for name, body in idx_files(forge).items() if name != absent})


def _counts(*sides: int, data: int = 4 * 64) -> Make:
    return _idx(b"\x00\x00\x08" + bytes([len(sides)]) + struct.pack(f">{len(sides)}I", *sides) + bytes(data))


def _twice(forge: Forge) -> bytes:
    return forge.zip({f"{folder}/train-images-idx3-ubyte": forge.idx(IMAGES) for folder in "ab"})


def cases() -> Iterator[Case]:
    """All of them."""
    yield from family(
        "arrays that are pickles",
        "dataset",
        {
            "an array whose pickle runs a command": (_pickled, BAD),
            "a pickle under the name of an array": (_alone, BAD),
            "images": (_arrays(images=np.array([{}, 1], dtype=object)), BAD, "npz:images.npy"),
            "labels": (_arrays(labels=np.array([{}, 1, 2, 3], dtype=object)), BAD, "npz:labels.npy"),
            "a field": (_arrays(labels=np.zeros(4, dtype=[("a", "i8"), ("b", "O")])), BAD),
            "class names": (_arrays(classes=np.array(["a", None], dtype=object)), BAD),
        },
    )
    yield from family(
        "array headers that lie",
        "dataset",
        {
            "no header": (lambda forge: forge.zip({"images.npy": b""}), BAD),
            "another version": (_other_version, BAD),
            "a header of 4 GB": (_header_length, BAD),
            "a program": (_header("__import__('os').system('true')"), BAD),
            "brackets": (_header("(" * 4000), BAD),
            "minus signs": (_header("-" * 4000 + "1"), BAD),
            "60 kB of blanks": (_header("{" + " " * 60_000 + "}"), BAD),
            "a shape of terabytes": (_claim("(10**6, 10**6)"), BAD),
            "a shape beyond its bytes": (_claim("(1000000, 1000, 1000)"), BAD),
            "a shape whose product wraps to its bytes": (_claim(f"({2**64 + 1}, 1, 1)"), BAD),
            "a shape below zero": (_claim("(-2, -3)", body=b"x" * 6), BAD),
            "a shape of fractions": (_claim("(1.0,)"), BAD),
            "a shape of truths": (_claim("(True, True, True)"), BAD),
            "a shape of 1,000 sides": (_claim(f"{(1,) * 1000}"), BAD),
            "a type that is none": (_claim("(1,)", "nonsense"), BAD),
            "a type of 10^9 numbers": (_claim("(1,)", "(1000000000,)u1"), BAD),
            "a type of no bytes": (_claim("(1000000000000,)", "|S0", body=b""), BAD),
            "10^9 class names of no letters": (_classes_of_nothing, BAD, "npz:classes.npy"),
            "an order that is none": (_claim("(1,)", order="'C'"), BAD),
        },
    )
    yield from family(
        "arrays that are no images or labels",
        "dataset",
        {
            "floats": (_arrays(images=IMAGES / 255), "dataset.not_uint8"),
            "sixteen bits": (_arrays(images=IMAGES.astype(np.uint16)), "dataset.not_uint8"),
            "flat images": (_arrays(images=IMAGES.reshape(4, 64)), SHAPE),
            "four channels": (_arrays(images=np.zeros((4, 8, 8, 4), np.uint8)), SHAPE),
            "images without pixels": (_arrays(images=np.zeros((4, 0, 8), np.uint8)), SHAPE),
            "channels without pixels": (_arrays(images=np.zeros((4, 3, 0, 0), np.uint8)), SHAPE),
            "pixels without rows": (_arrays(images=np.zeros((4, 0, 8, 3), np.uint8)), SHAPE),
            "no images": (_arrays(images=IMAGES[:0], labels=LABELS[:0]), "dataset.empty"),
            "labels below zero": (_arrays(labels=LABELS - 1), LABEL),
            "labels in the millions": (_arrays(labels=LABELS * 10**6), LABEL),
            "labels of 2^63": (_arrays(labels=LABELS.astype(np.uint64) * np.uint64(2**63)), LABEL),
            "one-hot labels": (_arrays(labels=np.eye(4, 2, dtype=np.int64)), LABEL),
            "labels that are floats": (_arrays(labels=LABELS.astype(np.float32)), LABEL),
            "labels that are not a number": (_arrays(labels=LABELS * np.nan), LABEL),
            "fewer labels than images": (_arrays(labels=LABELS[:3]), LABEL),
            "a class without images": (_arrays(labels=LABELS * 2), "dataset.class_without_training_images"),
            "one class": (_arrays(labels=LABELS * 0), "dataset.one_class"),
            "too few class names": (_arrays(classes=["cat"]), BAD),
            "class names twice": (_arrays(classes=["cat", "cat"]), BAD),
            "class names that are numbers": (_arrays(classes=[1, 2]), BAD),
            "class names that cannot be written": (
                _arrays(classes=["cat", "\ud800"]),
                "archive.unreadable_name",
            ),
            "unknown names": (lambda forge: forge.npz(pictures=IMAGES, kinds=LABELS), "npz.unknown_names"),
        },
    )
    yield from family(
        "idx files that lie",
        "dataset",
        {
            "empty": (_idx(b""), "idx.bad_array", _IDX),
            "cut in its magic": (_idx(b"\x00\x00\x08"), "idx.bad_array", _IDX),
            "cut in its shape": (_idx(b"\x00\x00\x08\x03\x00\x00"), "idx.bad_array", _IDX),
            "floats": (
                _idx(b"\x00\x00\x0d\x03" + struct.pack(">III", 1, 1, 1) + b"x"),
                "idx.bad_array",
                _IDX,
            ),
            "counts of 2^96": (_counts(2**32 - 1, 2**32 - 1, 2**32 - 1), "idx.bad_array", _IDX),
            "counts whose product wraps to its bytes": (
                _counts(2**31, 2**31, 4, data=0),
                "idx.bad_array",
                _IDX,
            ),
            "one row too few": (_counts(4, 8, 9), "idx.bad_array", _IDX),
            "one row too many": (_counts(4, 8, 7), "idx.bad_array", _IDX),
            "nothing of everything": (_counts(2**32 - 1, 2**32 - 1, 0, data=0), "idx.bad_array", _IDX),
            "255 sides": (_idx(b"\x00\x00\x08\xff" + bytes(2000)), "idx.bad_array", _IDX),
            "no gzip": (_idx(b"\x1f\x8b\x08\x00junk"), "idx.bad_array", _IDX),
            "a gzip that is cut": (_idx(gzip.compress(bytes(9999))[:-12]), "idx.bad_array", _IDX),
            "a gzip of zeros": (_idx(gzip.compress(bytes(30 * 2**20))), "idx.bad_array", _IDX),
            "no labels": (_without("train-labels-idx1-ubyte"), "idx.incomplete"),
            "no test images": (_without("t10k-images-idx3-ubyte"), "idx.incomplete"),
            "two of one": (_twice, "idx.bad_array"),
        },
    )
