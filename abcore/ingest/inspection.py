"""What a dataset is like, and what its user should know before anything is trained on it."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from abcore.data.dataset import Split
from abcore.ingest.collected import Collected
from abcore.ingest.duplicates import find_duplicates
from abcore.specs.architectures import ImageShape, Normalization
from abcore.specs.refusals import Problem
from abcore.specs.reports import (
    DatasetFormat,
    DatasetReport,
    Duplicates,
    FoundSize,
    SampleSheet,
    SplitReport,
)

MOST_IMBALANCE = 10
FEWEST_TRAINING_IMAGES = 10
FEWEST_EVALUATION_IMAGES = 100
LEAST_CONTRAST = 2.0
"""Standard deviation of an image's pixels, of 255: below it there is nothing to see."""

_CHUNK_IMAGES = 4096
_LEAST_STD = 1e-3
_MOST_SIZES = 10
_LISTED = 10


def inspect(
    splits: Mapping[str, Split],
    collected: Collected,
    found_format: DatasetFormat,
    warnings: tuple[Problem, ...],
    image_size: int | None,
    sheet: SampleSheet,
) -> DatasetReport:
    """Count, measure and compare; `warnings` are those that are known already."""
    classes = collected.classes
    reports = {name: _split_report(split, len(classes)) for name, split in splits.items()}
    duplicates = find_duplicates(splits)
    train = reports["train"]
    _, channels, height, width = splits["train"].images.shape
    return DatasetReport(
        format=found_format,
        image=ImageShape(channels=channels, height=height, width=width),
        classes=classes,
        splits=reports,
        normalization=Normalization(mean=train.mean, std=tuple(max(std, _LEAST_STD) for std in train.std)),
        found_sizes=tuple(
            FoundSize(width=w, height=h, num_images=n)
            for (h, w), n in collected.found_sizes.most_common(_MOST_SIZES)
        ),
        num_found_sizes=len(collected.found_sizes),
        imbalance=max(train.class_counts) / min(train.class_counts),
        duplicates=duplicates,
        samples=sheet,
        warnings=(
            *warnings,
            *_class_warnings(reports, classes),
            *_size_warnings(collected, image_size),
            *_contrast_warnings(splits),
            *_duplicate_warnings(duplicates),
        ),
    )


def _split_report(split: Split, num_classes: int) -> SplitReport:
    mean, std = _moments(split.images)
    counts = torch.bincount(split.labels, minlength=num_classes).tolist()
    return SplitReport(num_images=len(split), class_counts=tuple(counts), mean=mean, std=std)


def _moments(images_NCHW: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the pixels a channel, in the [0, 1] range."""
    num_pixels = images_NCHW.numel() / images_NCHW.shape[1]
    sums, squares = (torch.zeros(images_NCHW.shape[1], dtype=torch.float64) for _ in range(2))
    for chunk in torch.split(images_NCHW, _CHUNK_IMAGES):
        pixels = chunk.double() / 255
        sums += pixels.sum((0, 2, 3))
        squares += pixels.square().sum((0, 2, 3))
    mean = sums / num_pixels
    std = (squares / num_pixels - mean.square()).clamp(min=0).sqrt()
    return tuple(mean.tolist()), tuple(std.tolist())


def _class_warnings(reports: Mapping[str, SplitReport], classes: tuple[str, ...]) -> Iterator[Problem]:
    for name, report in reports.items():
        counts = report.class_counts
        absent = [classes[label] for label, count in enumerate(counts) if count == 0]
        if absent:
            yield Problem(
                code="dataset.class_missing",
                message=f"{len(absent)} classes have no image in {name!r}: {', '.join(absent[:5])}",
                where=f"dataset:{name}",
                value=absent[:_LISTED],
                hint="How well they are told apart will not show in that split's accuracy.",
            )
        if name != "train" and report.num_images < FEWEST_EVALUATION_IMAGES:
            yield Problem(
                code="dataset.small_split",
                message=f"{name!r} has {report.num_images} images: one of them is {1 / report.num_images:.1%} of its "
                "accuracy",
                where=f"dataset:{name}",
                value=report.num_images,
                hint=f"Differences between students are within chance; {FEWEST_EVALUATION_IMAGES} or more would say "
                "more.",
            )
    counts = reports["train"].class_counts
    if max(counts) > MOST_IMBALANCE * min(counts):
        yield Problem(
            code="dataset.imbalance",
            message=f"the largest class has {max(counts)} training images and the smallest {min(counts)}",
            where="dataset:train",
            value=[max(counts), min(counts)],
            hint="A network may learn to say the large classes; look at the small ones' share of the test split.",
        )
    tiny = [classes[label] for label, count in enumerate(counts) if count < FEWEST_TRAINING_IMAGES]
    if tiny:
        yield Problem(
            code="dataset.tiny_classes",
            message=f"{len(tiny)} classes have fewer than {FEWEST_TRAINING_IMAGES} training images: "
            f"{', '.join(tiny[:5])}",
            where="dataset:train",
            value=tiny[:_LISTED],
            hint="Add images of them, or merge them.",
        )


def _size_warnings(collected: Collected, image_size: int | None) -> Iterator[Problem]:
    if image_size is None:
        return
    sizes = collected.found_sizes.items()
    small = sum(count for (height, width), count in sizes if min(height, width) < image_size)
    if small:
        yield Problem(
            code="dataset.enlarged",
            message=f"{small:,} images were smaller than {image_size} pixels at a side and were enlarged",
            where="image_size",
            value=image_size,
            hint="A smaller image_size costs less and shows the same.",
        )


def _contrast_warnings(splits: Mapping[str, Split]) -> Iterator[Problem]:
    for name, split in splits.items():
        flat = [
            images.float().flatten(1).std(1, correction=0) < LEAST_CONTRAST
            for images in torch.split(split.images, _CHUNK_IMAGES)
        ]
        found = torch.cat(flat).nonzero().flatten().tolist()
        if found:
            yield Problem(
                code="dataset.blank_images",
                message=f"{len(found):,} images of {name!r} are of one colour, or nearly",
                where=f"dataset:{name}[{found[0]}]",
                value=found[:_LISTED],
                hint="`value` counts them from 0 in the order of the split; leave them out if they show nothing.",
            )


def _duplicate_warnings(duplicates: Duplicates) -> Iterator[Problem]:
    for pair, count in duplicates.across.items():
        first, second = pair.split("+")
        if count:
            yield Problem(
                code="dataset.duplicates",
                message=f"{count:,} different images are both in {first!r} and in {second!r}",
                where=f"dataset:{second}",
                value=count,
                hint="Accuracy on that split will look better than it is; `duplicates.examples` names some.",
            )
    for name, count in duplicates.within.items():
        if count:
            yield Problem(
                code="dataset.repeated",
                message=f"{count:,} images of {name!r} repeat another one of it",
                where=f"dataset:{name}",
                value=count,
                hint="They weigh more than the others; leave the copies out if that is not meant.",
            )
    if duplicates.other_label:
        yield Problem(
            code="dataset.other_label",
            message=f"{duplicates.other_label:,} different images are there under more than one label",
            where="dataset",
            value=duplicates.other_label,
            hint="One of the labels is wrong, and no network can learn both; `duplicates.examples` names some.",
        )
