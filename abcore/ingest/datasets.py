"""A dataset's upload, from untrusted bytes to images and labels that fit together, and a report on them."""

import hashlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from abcore.data.dataset import ImageDataset, Split, save_dataset
from abcore.export import output_file
from abcore.ingest.archives import Member, tar_members, zip_members
from abcore.ingest.arrays import IDX_NAME, read_idx, read_npz
from abcore.ingest.imagefolder import read_imagefolder
from abcore.ingest.limits import refuse_when_out_of_memory
from abcore.ingest.signatures import kind_of, looks_like
from abcore.specs.architectures import ImageShape, Normalization
from abcore.specs.refusals import Problem, Refusal
from abcore.specs.reports import DatasetReport, SplitReport
from abcore.specs.runs import RunResult, VerifyDatasetRun

_SMALLEST, _LARGEST = 4, 1024
_IMBALANCE = 10
_HOLDOUT_SEED = 0
_CHUNK_IMAGES = 4096
_LEAST_STD = 1e-3


@refuse_when_out_of_memory
def verify_dataset(run: VerifyDatasetRun, workspace: Path) -> RunResult:
    """Read `inputs/upload`, write `outputs/dataset.safetensors`.

    Raises:
        Refusal: `archive.*`, `dataset.*`, `npz.*`, `idx.*`: what is wrong, in which file of the upload.
    """
    upload = workspace / "inputs" / "upload"
    splits, classes, found_format, warnings = _read(upload, run)
    splits, held_out = _with_held_out(splits, run.holdout_fraction)
    _check(splits, classes)
    report = DatasetReport(
        format=found_format,
        image=_image_shape(splits["train"].images),
        classes=classes,
        splits={name: _split_report(split, len(classes)) for name, split in splits.items()},
        normalization=_normalization(splits["train"].images),
        warnings=(*warnings, *held_out, *_balance_warnings(splits, classes), *_duplicate_warnings(splits)),
    )
    path = workspace / "outputs" / "dataset.safetensors"
    save_dataset(path, ImageDataset(splits, report))
    return RunResult(report=report, files=(output_file(path, "dataset", "application/vnd.safetensors"),))


def _read(
    upload: Path, run: VerifyDatasetRun
) -> tuple[dict[str, Split], tuple[str, ...], Literal["imagefolder", "npz", "idx"], list[Problem]]:
    """Find the format from the bytes and from the first file's name inside; the upload's own name is only a name."""
    match kind_of(upload):
        case "zip":
            members = zip_members(upload)
        case "tar":
            members = tar_members(upload, gzipped=False)
        case "gzip":
            members = tar_members(upload, gzipped=True)
        case _:
            raise Refusal(
                "dataset.unknown_format",
                f"{run.filename!r} is no dataset: it looks like {looks_like(upload)}",
                where="dataset",
                allowed=(".zip, .tar or .tar.gz of train/CLASS/*", ".npz", "an archive of idx files"),
                hint="Pack the folder: tar -C FOLDER -czf data.tar.gz train val",
            )
    first = next(members, None)
    if first is None:
        raise Refusal(
            "dataset.empty",
            "the archive holds no file",
            where="archive",
            hint="Pack the folder: tar -C FOLDER -czf data.tar.gz train val",
        )
    everything: Iterator[Member] = chain([first], members)
    name = PurePosixPath(first.name).name
    if name.endswith(".npy"):
        return *read_npz(everything, run.image_size, run.max_bytes), "npz", []
    if IDX_NAME.search(name):
        return *read_idx(everything, run.image_size, run.max_bytes), "idx", []
    splits, classes, warnings = read_imagefolder(everything, run.image_size, run.max_bytes)
    return splits, classes, "imagefolder", warnings


def _with_held_out(splits: dict[str, Split], fraction: float) -> tuple[dict[str, Split], list[Problem]]:
    """Without a split to evaluate on, hold out a share of every class; the same one each time."""
    if "val" in splits or "test" in splits:
        return splits, []
    train = splits["train"]
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(_HOLDOUT_SEED))
    is_test = torch.zeros(len(train), dtype=torch.bool)
    for label in torch.unique(train.labels):
        of_class = order[train.labels[order] == label]
        # At least one image on each side, as far as a class has two.
        num_held_out = min(max(1, round(len(of_class) * fraction)), len(of_class) - 1)
        is_test[of_class[:num_held_out]] = True
    parts = {"train": ~is_test, "test": is_test}
    warning = Problem(
        code="dataset.held_out",
        message=f"there is no val or test split: {int(is_test.sum()):,} images of train, {fraction:.0%} of every "
        "class, were held out as test",
        where="holdout_fraction",
        value=fraction,
    )
    return {name: Split(train.images[keep], train.labels[keep]) for name, keep in parts.items()}, [warning]


def _check(splits: dict[str, Split], classes: tuple[str, ...]) -> None:
    for name, split in splits.items():
        if len(split) == 0:
            raise Refusal(
                "dataset.empty_split",
                f"split {name!r} holds no image",
                where=f"dataset:{name}",
                hint="Fill it or leave it out. Without `val` and `test`, images are held out of `train`: at least one "
                "of every class that has two.",
            )
    if len(classes) < 2:
        raise Refusal(
            "dataset.one_class",
            f"all images are of one class, {classes[0]!r}; there is nothing to tell apart",
            where="dataset",
            hint="Send at least two classes.",
        )
    counts = torch.bincount(splits["train"].labels, minlength=len(classes))
    empty = [classes[label] for label in (counts == 0).nonzero().flatten().tolist()]
    if empty:
        raise Refusal(
            "dataset.class_without_training_images",
            f"{len(empty)} classes have no training image: {', '.join(empty[:10])}",
            where="dataset:train",
            value=empty[:10],
            hint="Give each class training images, or remove it from the other splits.",
        )
    height, width = splits["train"].images.shape[2:]
    if not (min(height, width) >= _SMALLEST and max(height, width) <= _LARGEST):
        raise Refusal(
            "dataset.image_size",
            f"images of {width}x{height} pixels are not supported",
            where="image_size",
            value=[width, height],
            allowed=(f"{_SMALLEST} to {_LARGEST} pixels a side",),
            hint="Create the dataset with `image_size`.",
        )


def _image_shape(images_NCHW: Tensor) -> ImageShape:
    _, channels, height, width = images_NCHW.shape
    return ImageShape(channels=channels, height=height, width=width)


def _split_report(split: Split, num_classes: int) -> SplitReport:
    counts = torch.bincount(split.labels, minlength=num_classes).tolist()
    return SplitReport(num_images=len(split), class_counts=tuple(counts))


def _normalization(images_NCHW: Tensor) -> Normalization:
    """Mean and standard deviation of the training pixels a channel; a constant channel gets a small std, not zero."""
    num_pixels = images_NCHW.numel() / images_NCHW.shape[1]
    sums, squares = (torch.zeros(images_NCHW.shape[1], dtype=torch.float64) for _ in range(2))
    for chunk in torch.split(images_NCHW, _CHUNK_IMAGES):
        pixels = chunk.double() / 255
        sums += pixels.sum((0, 2, 3))
        squares += pixels.square().sum((0, 2, 3))
    mean = sums / num_pixels
    std = (squares / num_pixels - mean.square()).clamp(min=0).sqrt().clamp(min=_LEAST_STD)
    return Normalization(mean=tuple(mean.tolist()), std=tuple(std.tolist()))


def _balance_warnings(splits: dict[str, Split], classes: tuple[str, ...]) -> Iterator[Problem]:
    for name, split in splits.items():
        counts = torch.bincount(split.labels, minlength=len(classes))
        if name != "train" and (counts == 0).any():
            absent = [classes[label] for label in (counts == 0).nonzero().flatten().tolist()]
            yield Problem(
                code="dataset.class_missing",
                message=f"{len(absent)} classes have no image in {name!r}: {', '.join(absent[:5])}",
                where=f"dataset:{name}",
                value=absent[:10],
            )
        if name == "train" and counts.max() > _IMBALANCE * counts.min():
            yield Problem(
                code="dataset.imbalance",
                message=f"the largest class has {counts.max()} training images and the smallest {counts.min()}",
                where="dataset:train",
                value=[int(counts.max()), int(counts.min())],
            )


def _duplicate_warnings(splits: dict[str, Split]) -> Iterator[Problem]:
    """Equal images in train and in what it is judged by make the judgement too good."""
    digests = {
        name: {hashlib.sha256(image).digest() for image in np.ascontiguousarray(split.images.numpy())}
        for name, split in splits.items()
    }
    train = digests.pop("train")
    for name, others in digests.items():
        shared = len(train & others)
        if shared:
            yield Problem(
                code="dataset.duplicates",
                message=f"{shared:,} different images are both in 'train' and in {name!r}",
                where=f"dataset:{name}",
                value=shared,
                hint="Accuracy on that split will look better than it is.",
            )
