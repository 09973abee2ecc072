"""Datasets that are arrays: `.npz` files, and the idx files of the MNIST family in an archive."""

import gzip
import io
import math
import re
import struct
import tokenize
import zlib
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from abcore.ingest.archives import Member, check_readable
from abcore.ingest.collected import Collected, Collection, too_large
from abcore.ingest.labelling import MOST_CLASSES, Labelling
from abcore.specs.refusals import Refusal

Array = npt.NDArray[Any]

IDX_NAME = re.compile(
    r"(?:^|[-_.])(train|t10k|test|val|valid)[-_.]?(images|labels)[-_.]idx[13][-_.]ubyte(?:\.gz)?$"
)

_NPZ_NAMES = {
    "train": (
        ("train_images", "train_labels"),
        ("x_train", "y_train"),
        ("X_train", "y_train"),
        ("images", "labels"),
    ),
    "val": (("val_images", "val_labels"), ("x_val", "y_val"), ("X_val", "y_val")),
    "test": (("test_images", "test_labels"), ("x_test", "y_test"), ("X_test", "y_test")),
}
_CLASS_NAMES = ("classes", "class_names")
_KNOWN_NAMES = {name for pairs in _NPZ_NAMES.values() for pair in pairs for name in pair} | {*_CLASS_NAMES}
_MOST_NPY_HEADER = 4096
_MOST_SIDES = 4
_MOST_IDX_HEADER = 4 + 4 * 4


def read_npz(members: Iterable[Member], image_size: int | None, most_bytes: int) -> Collected:
    """Read the arrays of an `.npz`: images uint8 (N, H, W), (N, H, W, C) or (N, C, H, W), labels of whole numbers (N,).

    Raises:
        Refusal: `npz.*`: unknown names, other dtypes or shapes, or pickled objects, which are never opened.
    """
    arrays: dict[str, Array] = {}
    others: list[str] = []
    for member in members:
        name = member.name.removesuffix(".npy")
        if name not in _KNOWN_NAMES:
            others.append(name)
            continue
        arrays[name] = _read_npy(member, most_bytes - sum(array.nbytes for array in arrays.values()))
    pairs = {}
    for split, names in _NPZ_NAMES.items():
        pair = next((pair for pair in names if all(name in arrays for name in pair)), None)
        if pair is not None:
            pairs[split] = (arrays[pair[0]], arrays[pair[1]])
    if "train" not in pairs:
        raise Refusal(
            "npz.unknown_names",
            f"the .npz has no training images and labels; it holds {', '.join(sorted([*arrays, *others])[:20])}",
            where="npz",
            value=sorted([*arrays, *others])[:20],
            allowed=tuple(f"{images} with {labels}" for images, labels in _NPZ_NAMES["train"]),
            hint="numpy.savez('data.npz', train_images=..., train_labels=..., test_images=..., test_labels=...)",
        )
    given = next((arrays[name] for name in _CLASS_NAMES if name in arrays), None)
    return _to_splits(pairs, "npz", image_size, most_bytes, given)


def read_idx(members: Iterable[Member], image_size: int | None, most_bytes: int) -> Collected:
    """Read the idx files of an archive: `train-images-idx3-ubyte` and its like, gzipped or not.

    Raises:
        Refusal: `idx.*`: a file of a pair is missing, or a header claims another size than the file has.
    """
    arrays: dict[tuple[str, str], Array] = {}
    for member in members:
        match = IDX_NAME.search(PurePosixPath(member.name).name)
        if match is None:
            continue
        split = {"t10k": "test", "valid": "val"}.get(match[1], match[1])
        if (split, match[2]) in arrays:
            raise _bad_array("idx", member.name, f"is a second file of the {split} {match[2]}")
        left = most_bytes - sum(array.nbytes for array in arrays.values())
        arrays[split, match[2]] = _read_idx_file(member, left)
    lonely = [
        f"{split} {'labels' if kind == 'images' else 'images'}"
        for split, kind in arrays
        if (split, "labels" if kind == "images" else "images") not in arrays
    ]
    if lonely or ("train", "images") not in arrays:
        raise Refusal(
            "idx.incomplete",
            f"the archive has no idx file for: {', '.join(sorted(lonely) or ['train images', 'train labels'])}",
            where="archive",
            allowed=(
                "train-images-idx3-ubyte",
                "train-labels-idx1-ubyte",
                "t10k-images-idx3-ubyte",
                "t10k-labels-idx1-ubyte",
            ),
            hint="Pack all four files, under their usual names, into one archive.",
        )
    splits = sorted({split for split, _ in arrays})
    pairs = {split: (arrays[split, "images"], arrays[split, "labels"]) for split in splits}
    return _to_splits(pairs, "idx", image_size, most_bytes, None)


def _read_npy(member: Member, most_bytes: int) -> Array:
    if member.size_bytes > most_bytes + _MOST_NPY_HEADER:
        raise too_large(most_bytes)
    stream = io.BytesIO(member.read())
    try:
        version = np.lib.format.read_magic(stream)
        reader = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = reader(stream, max_header_size=_MOST_NPY_HEADER)
    except (ValueError, EOFError, SyntaxError, tokenize.TokenError, TypeError, RecursionError) as error:
        raise _bad_array("npz", member.name, f"is no .npy array ({str(error)[:100]})") from error
    if dtype.hasobject:
        raise _bad_array("npz", member.name, "holds pickled Python objects, which are never opened")
    # Values of no bytes (of type S0, say) cost nothing in the file, however many it claims, and much as a list.
    if dtype.itemsize == 0 or len(shape) > _MOST_SIDES or not all(type(side) is int for side in shape):
        raise _bad_array(
            "npz", member.name, f"claims {str(dtype)[:50]} of shape {str(shape)[:50]}, which is no array"
        )
    claimed = math.prod(shape) * dtype.itemsize
    has = member.size_bytes - stream.tell()
    if min(shape, default=0) < 0 or max(shape, default=0) > member.size_bytes or claimed != has:
        raise _bad_array("npz", member.name, f"claims shape {shape}, {claimed:,} bytes, and has {has:,}")
    stream.seek(0)
    array: Array = np.lib.format.read_array(stream, allow_pickle=False, max_header_size=_MOST_NPY_HEADER)
    return array


def _read_idx_file(member: Member, most_bytes: int) -> Array:
    if member.size_bytes > most_bytes + _MOST_IDX_HEADER:
        raise too_large(most_bytes)
    content = member.read()
    if content.startswith(b"\x1f\x8b"):
        try:
            with gzip.open(io.BytesIO(content)) as file:
                content = file.read(most_bytes + _MOST_IDX_HEADER + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise _bad_array("idx", member.name, f"is damaged: {error}") from error
        if len(content) > most_bytes + _MOST_IDX_HEADER:
            raise too_large(most_bytes)
    rank = content[3] if len(content) >= 4 else 0
    header_bytes = 4 + 4 * rank
    if content[:3] != b"\x00\x00\x08" or rank not in (1, 3, 4) or len(content) < header_bytes:
        raise _bad_array(
            "idx", member.name, "is no idx file of bytes (it begins with " + content[:4].hex(" ") + ")"
        )
    shape = struct.unpack(f">{rank}I", content[4:header_bytes])
    has = len(content) - header_bytes
    if math.prod(shape) != has or max(shape) > len(content):
        raise _bad_array(
            "idx", member.name, f"claims shape {shape}, {math.prod(shape):,} bytes, and has {has:,}"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=header_bytes).reshape(shape)


def _to_splits(
    pairs: Mapping[str, tuple[Array, Array]],
    source: str,
    image_size: int | None,
    most_bytes: int,
    names: Array | None,
) -> Collected:
    collection = Collection(most_bytes, image_size)
    converted = {}
    for split, (images, labels) in pairs.items():
        images_NHWC = _to_nhwc(images, f"{source}:{split} images")
        converted[split] = images_NHWC, _to_labels(labels, len(images_NHWC), f"{source}:{split} labels")
    num_classes = max(int(labels_N.max(initial=-1)) + 1 for _, labels_N in converted.values())
    labelling = Labelling(None if names is None else _checked_names(names, num_classes, source))
    for split, (images_NHWC, labels_N) in converted.items():
        for pixels, label in zip(images_NHWC, labels_N.tolist(), strict=True):
            collection.add(split, labelling.number(label, f"{source}:{split} labels"), pixels)
    return collection.settled(labelling)


def _checked_names(names: Array, num_classes: int, source: str) -> tuple[str, ...]:
    if (
        names.ndim != 1
        or names.dtype.kind != "U"
        or not num_classes <= len(set(names.tolist())) == len(names)
    ):
        raise _bad_array(
            source, "classes", f"must be {num_classes} different strings; it is {names.dtype} {names.shape}"
        )
    for name in names.tolist():
        check_readable(name, f"{source}:classes")
    return tuple(names.tolist())


def _to_nhwc(images: Array, where: str) -> Array:
    if images.dtype != np.uint8:
        raise Refusal(
            "dataset.not_uint8",
            f"{where} are {images.dtype}; pixels must be whole numbers from 0 to 255",
            where=where,
            value=str(images.dtype),
            allowed=("uint8",),
            hint="(images * 255).round().astype('uint8') if they go from 0 to 1. Normalisation comes later.",
        )
    if images.ndim == 3 and 0 not in images.shape[1:]:
        return images[:, :, :, None]
    if images.ndim == 4 and images.shape[3] in (1, 3) and 0 not in images.shape[1:]:
        return images
    if images.ndim == 4 and images.shape[1] in (1, 3) and 0 not in images.shape[1:]:
        return images.transpose(0, 2, 3, 1)
    raise Refusal(
        "dataset.shape",
        f"{where} have shape {images.shape}",
        where=where,
        value=list(images.shape),
        allowed=("(N, H, W)", "(N, H, W, 1 or 3)", "(N, 1 or 3, H, W)"),
        hint="Images are grey or RGB; drop other channels: images[..., :3].",
    )


def _to_labels(labels: Array, num_images: int, where: str) -> Array:
    labels_N = labels.reshape(-1) if labels.shape == (num_images, 1) else labels
    if labels_N.shape != (num_images,) or labels_N.dtype.kind not in "iu":
        raise Refusal(
            "dataset.labels",
            f"{where} are {labels.dtype} of shape {labels.shape}; there are {num_images:,} images",
            where=where,
            allowed=(f"whole numbers of shape ({num_images},)",),
            hint="One class index an image, counted from 0; turn one-hot labels into indices with argmax(axis=1).",
        )
    if num_images and not (labels_N.min() >= 0 and labels_N.max() < MOST_CLASSES):
        raise Refusal(
            "dataset.labels",
            f"{where} go from {labels_N.min()} to {labels_N.max()}",
            where=where,
            allowed=(f"0 to {MOST_CLASSES - 1}",),
            hint="Count classes from 0.",
        )
    return labels_N.astype(np.int64)


def _bad_array(source: str, name: str, why: str) -> Refusal:
    return Refusal(
        f"{source}.bad_array",
        f"{name} {why}",
        where=f"{source}:{name}",
        hint="Write the file again with numpy.savez." if source == "npz" else "Send the original idx files.",
    )
