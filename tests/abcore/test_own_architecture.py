"""A student of the teacher's own architecture can have every boundary where the teacher has it; it must get there."""

import shutil
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits

from abcore.data.dataset import ImageDataset, Split, save_dataset
from abcore.distillation import distill
from abcore.events import EventWriter
from abcore.specs.architectures import ImageShape, Normalization
from abcore.specs.reports import DatasetReport, DistillReport, SplitReport, TapSimilarity
from abcore.specs.runs import DistillRun

ARCHITECTURE = {"arch": "wide_resnet", "depth": 10, "width": 1}
ACTIVATIONS = (
    "block1.layer.0.relu1",
    "block1.layer.0.relu2",
    "block2.layer.0.relu1",
    "block2.layer.0.relu2",
    "block3.layer.0.relu1",
    "block3.layer.0.relu2",
    "relu",
)
"""Every activation of a WRN-10, shallow to deep."""
IMAGE = ImageShape(channels=1, height=8, width=8)
NORMALIZATION = Normalization(mean=(0.3,), std=(0.37,))
NUM_TRAIN = 1437  # four fifths of 1,797
LABELS_ALONE: dict[str, Any] = {
    "seed": 1,
    "transfer": None,
    "finetune": {"epochs": 10, "batch_size": 64, "cross_entropy_weight": 1.0, "kd_weight": 0.0},
    "augmentation": {"crop_padding": 0, "horizontal_flip": False},
}


@dataclass(frozen=True)
class Digits:
    """All of scikit-learn's digits, and a WRN-10-1 that has learnt them."""

    folder: Path

    def transfer(self, epochs: int, taps: tuple[str, ...]) -> tuple[TapSimilarity, ...]:
        """Transfer boundaries at `taps` to a student of the same architecture; similarities on held-out images."""
        recipe = {
            "method": {"name": "ab", "connector": "where_needed"},
            "taps": {"student": taps, "teacher": taps},
            "transfer": {
                "epochs": epochs,
                "optimizer": {"learning_rate": 0.3, "weight_decay": 0.0},
                "schedule": {"name": "cosine", "warmup_fraction": 0.05},
            },
            "finetune": None,
            "augmentation": {"crop_padding": 2, "horizontal_flip": False},
            "evaluate_every": epochs,
        }
        model = {"architecture": ARCHITECTURE, "image": IMAGE, "num_classes": 10}
        return self._run("student", recipe, model).boundary_similarity

    def train_teacher(self) -> None:
        """Leave `teacher.safetensors`."""
        report = self._run("teacher", LABELS_ALONE, None)
        assert report.student_accuracy["test"].top1 > 0.95
        shutil.move(self.folder / "teacher/outputs/student.safetensors", self.folder / "teacher.safetensors")

    def _run(self, name: str, recipe: dict[str, Any], teacher: dict[str, Any] | None) -> DistillReport:
        workspace = self.folder / name
        shutil.rmtree(workspace, ignore_errors=True)
        inputs = workspace / "inputs"
        inputs.mkdir(parents=True)
        for file in self.folder.glob("*.safetensors"):
            shutil.copy(file, inputs)
        run = DistillRun.model_validate(
            {"student": ARCHITECTURE, "teacher": teacher, "normalization": NORMALIZATION, "recipe": recipe}
        )
        events = EventWriter(workspace / "events.jsonl")
        report = distill(run, workspace, events, lambda: False).report
        events.close()
        assert isinstance(report, DistillReport)
        return report


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Digits]:
    loaded = load_digits()
    images = torch.from_numpy(loaded.images * (255 / 16)).round().to(torch.uint8)[:, None]
    labels = torch.from_numpy(loaded.target).long()
    splits = {
        "train": Split(images[:NUM_TRAIN], labels[:NUM_TRAIN]),
        "test": Split(images[NUM_TRAIN:], labels[NUM_TRAIN:]),
    }
    report = DatasetReport(
        format="npz",
        image=IMAGE,
        classes=tuple("0123456789"),
        splits={
            name: SplitReport(num_images=len(split), class_counts=tuple(split.labels.bincount().tolist()))
            for name, split in splits.items()
        },
        normalization=NORMALIZATION,
    )
    folder = tmp_path_factory.mktemp("digits")
    save_dataset(folder / "dataset.safetensors", ImageDataset(splits, report))
    made = Digits(folder)
    torch.set_num_threads(1)
    made.train_teacher()
    return made


def test_boundaries_are_at_chance_before_and_on_their_way_after_a_few_epochs(digits: Digits) -> None:
    taps = digits.transfer(25, ACTIVATIONS)
    assert all(0.45 <= tap.before <= 0.55 for tap in taps if tap.before is not None)
    assert min(after(taps)) > 0.7
    assert statistics.mean(after(taps)) > 0.8


@pytest.mark.slow
def test_they_come_to_99_percent(digits: Digits) -> None:
    taps = digits.transfer(600, ACTIVATIONS)
    print("\n".join(f"{tap.teacher}: {tap.before:.4f} -> {tap.after:.4f}" for tap in taps))
    assert len(after(taps)) == len(ACTIVATIONS)
    assert statistics.mean(after(taps)) >= 0.99
    assert min(after(taps)) > 0.985


def after(taps: tuple[TapSimilarity, ...]) -> list[float]:
    """The similarity at each tap when transfer had ended."""
    return [tap.after for tap in taps if tap.after is not None]
