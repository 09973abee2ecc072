"""What all trials of an experiment share: images in the service's own form, and a teacher that has learnt them.

Both are made once and kept in a folder: the images by the very code that verifies an upload, the teacher by the very
loop that trains students.
"""

import io
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from abcore.architectures.torchvision_import import import_torchvision
from abcore.data.dataset import ImageDataset, Split, load_dataset, save_dataset
from abcore.distillation import distill
from abcore.events import EventWriter
from abcore.ingest import verify_dataset
from abcore.specs.reports import DatasetReport, SplitReport
from abcore.specs.runs import DistillRun, VerifyDatasetRun
from benchmarks.paper.arms import recipe
from benchmarks.paper.scales import Scale

DATASETS = ("digits", "fashion-mnist", "cifar10")
_TEACHER_SEED = 1000
_SUBSET_SEED = 0


class Material:
    """Images and teacher of one dataset at one scale, kept below `folder`; `data` holds the dataset's own files.

    Raises:
        SystemExit: the dataset is unknown, or its files are not in `data`.
    """

    def __init__(self, name: str, data: Path | None, scale: Scale, folder: Path) -> None:
        self._scale = scale
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._whole = folder / "whole.safetensors"
        if not self._whole.exists():
            _verify(name, _upload(name, data), scale.image_size, folder, self._whole)

    @property
    def num_classes(self) -> int:
        """Classes that the teacher tells apart."""
        return len(load_dataset(self._whole).report.classes)

    def images(self, share: float, *, paired: bool) -> Path:
        """Return the dataset file of a share of the scale's images; `paired`: each two classes are one label."""
        whole = len(load_dataset(self._whole).splits["train"])
        return self._part(round(share * (self._scale.train_images or whole)), paired=paired)

    def teacher(self) -> Path:
        """Return a teacher of all classes, trained on labels alone."""
        path = self._folder / "teacher-all.safetensors"
        if not path.exists():
            _train(self._part(self._scale.teacher_images, paired=False), self._scale, self._folder, path)
        return path

    def _part(self, num_train: int | None, *, paired: bool) -> Path:
        path = self._folder / f"{'paired' if paired else 'all'}-{num_train or 'whole'}.safetensors"
        if not path.exists():
            whole = load_dataset(self._whole)
            splits = {
                "train": _balanced(whole.splits["train"], num_train),
                "test": _balanced(whole.splits["test"], self._scale.test_images),
            }
            classes = whole.report.classes
            if paired:
                splits = {name: Split(split.images, split.labels // 2) for name, split in splits.items()}
                classes = tuple(
                    " or ".join(classes[first : first + 2]) for first in range(0, len(classes), 2)
                )
            save_dataset(path, ImageDataset(splits, _report(whole.report, classes, splits)))
        return path


def _report(whole: DatasetReport, classes: tuple[str, ...], splits: dict[str, Split]) -> DatasetReport:
    """The whole dataset's report, with a part's classes and counts."""
    counts = {
        name: SplitReport(
            num_images=len(split),
            class_counts=tuple(torch.bincount(split.labels, minlength=len(classes)).tolist()),
        )
        for name, split in splits.items()
    }
    return whole.model_copy(update={"classes": classes, "splits": counts})


def _balanced(split: Split, num_images: int | None) -> Split:
    """Take so many images, each class as often, by a fixed shuffle. Smaller parts are parts of larger ones."""
    shuffled = torch.randperm(len(split), generator=torch.Generator().manual_seed(_SUBSET_SEED))
    by_class = [shuffled[split.labels[shuffled] == label] for label in torch.unique(split.labels)]
    if num_images is not None:
        each, left_over = divmod(num_images, len(by_class))
        by_class = [index[: each + (place < left_over)] for place, index in enumerate(by_class)]
    kept = torch.cat(by_class)
    return Split(split.images[kept], split.labels[kept])


def _train(dataset: Path, scale: Scale, folder: Path, path: Path) -> None:
    workspace = folder / f"{path.stem}-training"
    shutil.rmtree(workspace, ignore_errors=True)
    (workspace / "inputs").mkdir(parents=True)
    shutil.copy(dataset, workspace / "inputs" / "dataset.safetensors")
    run = DistillRun.model_validate(
        {
            "student": scale.teacher,
            "teacher": None,
            "normalization": load_dataset(dataset).report.normalization,
            "recipe": recipe(scale, "cross-entropy", seed=_TEACHER_SEED, epochs=scale.teacher_epochs),
        }
    )
    events = EventWriter(workspace / "events.jsonl")
    distill(run, workspace, events, lambda: False)
    events.close()
    (workspace / "outputs" / "student.safetensors").rename(path)
    shutil.rmtree(workspace)


def _verify(name: str, upload: bytes, image_size: int | None, folder: Path, path: Path) -> None:
    workspace = folder / "verification"
    shutil.rmtree(workspace, ignore_errors=True)
    (workspace / "inputs").mkdir(parents=True)
    (workspace / "outputs").mkdir()
    (workspace / "inputs" / "upload").write_bytes(upload)
    verify_dataset(VerifyDatasetRun(filename=name, image_size=image_size), workspace)
    (workspace / "outputs" / "dataset.safetensors").rename(path)
    shutil.rmtree(workspace)


def _upload(name: str, data: Path | None) -> bytes:
    if name == "digits":
        from sklearn.datasets import load_digits  # noqa: PLC0415  # takes a second, and only this dataset needs it

        digits = load_digits()
        return _npz(images=np.round(digits.images * (255 / 16)).astype(np.uint8), labels=digits.target)
    if data is None or not data.is_dir():
        raise SystemExit(f"--dataset {name} needs --data FOLDER with its files; {data} is no folder")
    return _fashion_mnist(data) if name == "fashion-mnist" else _cifar10(data)


def _fashion_mnist(data: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(data.glob("*-ubyte*")):
            archive.write(path, path.name)
    return buffer.getvalue()


def _cifar10(data: Path) -> bytes:
    import_torchvision()
    from torchvision.datasets import CIFAR10  # noqa: PLC0415  # only importable after the line above

    train, test = (CIFAR10(data, train=is_train) for is_train in (True, False))
    return _npz(
        train_images=train.data,
        train_labels=np.array(train.targets),
        test_images=test.data,
        test_labels=np.array(test.targets),
    )


def _npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()
