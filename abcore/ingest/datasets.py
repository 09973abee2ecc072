"""A dataset's upload, from untrusted bytes to images and labels that fit together."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath

import torch

from abcore.data.dataset import ImageDataset, Split, save_dataset
from abcore.export import output_file
from abcore.ingest.archives import Member, tar_members, zip_members
from abcore.ingest.arrays import IDX_NAME, read_idx, read_npz
from abcore.ingest.collected import Collected
from abcore.ingest.imagefolder import place_of, read_imagefolder
from abcore.ingest.inspection import inspect
from abcore.ingest.limits import refuse_beyond_limits
from abcore.ingest.parquet import SUFFIX as PARQUET
from abcore.ingest.parquet import read_parquet_file, read_parquet_files
from abcore.ingest.samples import write_samples
from abcore.ingest.signatures import kind_of, looks_like
from abcore.ingest.webdataset import is_image, is_label, read_webdataset, split_name
from abcore.specs.refusals import Problem, Refusal
from abcore.specs.reports import DatasetFormat
from abcore.specs.runs import RunResult, VerifyDatasetRun

_SMALLEST, _LARGEST = 4, 1024
_HOLDOUT_SEED = 0
_READERS: dict[DatasetFormat, Callable[[Iterator[Member], int | None, int], Collected]] = {
    "imagefolder": read_imagefolder,
    "npz": read_npz,
    "idx": read_idx,
    "webdataset": read_webdataset,
    "parquet": read_parquet_files,
}


@refuse_beyond_limits
def verify_dataset(run: VerifyDatasetRun, workspace: Path) -> RunResult:
    """Read `inputs/upload`, write `outputs/dataset.safetensors` and a sheet of samples.

    Raises:
        Refusal: `archive.*`, `dataset.*` or a format's own: what is wrong, in which file of the upload.
    """
    collected, found_format = _read(workspace / "inputs" / "upload", run)
    splits, held_out = _with_held_out(collected.splits, run.holdout_fraction)
    _check(splits, collected.classes)
    outputs = workspace / "outputs"
    sheet = write_samples(outputs / "samples.png", splits["train"], collected.classes)
    warnings = (*collected.warnings, *held_out)
    report = inspect(splits, collected, found_format, warnings, run.image_size, sheet)
    save_dataset(outputs / "dataset.safetensors", ImageDataset(splits, report))
    files = (
        output_file(outputs / "dataset.safetensors", "dataset", "application/vnd.safetensors"),
        output_file(outputs / "samples.png", "samples", "image/png"),
    )
    return RunResult(report=report, files=files)


def _read(upload: Path, run: VerifyDatasetRun) -> tuple[Collected, DatasetFormat]:
    """Find the format from the bytes and from the names inside; the upload's own name is only a name."""
    match kind_of(upload):
        case "zip":
            members = zip_members
        case "tar":
            members = partial(tar_members, gzipped=False)
        case "gzip":
            members = partial(tar_members, gzipped=True)
        case "parquet":
            return read_parquet_file(upload, run.filename, run.image_size, run.max_bytes), "parquet"
        case _:
            raise Refusal(
                "dataset.unknown_format",
                f"{run.filename!r} is no dataset: it looks like {looks_like(upload)}",
                where="dataset",
                allowed=(
                    ".zip, .tar or .tar.gz of train/CLASS/*",
                    ".npz",
                    "an archive of idx files",
                    "a WebDataset .tar",
                    ".parquet with images and labels, or an archive of such files",
                ),
                hint="Pack the folder: tar -C FOLDER -czf data.tar.gz train val",
            )
    found_format = _format_of(members(upload))
    return _READERS[found_format](members(upload), run.image_size, run.max_bytes), found_format


def _format_of(members: Iterator[Member]) -> DatasetFormat:
    """Look at names until one tells; the archive is then opened anew, since a stream does not go back."""
    empty = True
    images: set[str] = set()
    labels: set[str] = set()
    for member in members:
        empty = False
        last = PurePosixPath(member.name).name
        if place_of(member.name):
            return "imagefolder"
        if last.endswith(".npy"):
            return "npz"
        if IDX_NAME.search(last):
            return "idx"
        if last.endswith(PARQUET):
            return "parquet"
        key, extension = split_name(member.name)
        if is_image(extension):
            images.add(key)
        elif is_label(extension):
            labels.add(key)
        if key in images and key in labels:
            return "webdataset"
    if empty:
        raise Refusal(
            "dataset.empty",
            "the archive holds no file",
            where="archive",
            hint="Pack the folder: tar -C FOLDER -czf data.tar.gz train val",
        )
    return "imagefolder"


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
