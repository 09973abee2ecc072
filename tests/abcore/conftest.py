"""What the tests of runs share: a small real dataset, a small teacher that has learnt it, and workspaces to run in."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch.nn import functional

from abcore.architectures import build_model
from abcore.data.dataset import ImageDataset, Split, save_dataset
from abcore.distillation import distill
from abcore.events import EventReader, EventWriter
from abcore.specs.architectures import ImageShape, ModelSpec, Normalization, WideResNet
from abcore.specs.recipes import Augmentation, Finetune, Recipe, Transfer
from abcore.specs.reports import DatasetReport, SplitReport
from abcore.specs.runs import DistillRun, RunResult

NUM_TRAIN, NUM_TEST = 120, 60
TEACHER = ModelSpec(
    architecture=WideResNet(arch="wide_resnet", depth=10, width=2),
    image=ImageShape(channels=1, height=8, width=8),
    num_classes=10,
)
STUDENT = WideResNet(arch="wide_resnet", depth=10, width=1)
NORMALIZATION = Normalization(mean=(0.3,), std=(0.37,))


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small networks are fastest on one thread, and bits depend on how many there are: one here, one in children."""
    torch.set_num_threads(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("ABDISTILL_DEVICE", "cpu")


@dataclass
class Bench:
    """A workspace with its inputs, and the ways to run it."""

    workspace: Path
    run: DistillRun

    def distill(self, stop_after: int | None = None) -> RunResult:
        """Run in this process; `stop_after` counts how often the run may ask before it is told to stop."""
        asked = 0

        def should_stop() -> bool:
            nonlocal asked
            asked += 1
            return stop_after is not None and asked > stop_after

        events = EventWriter(self.workspace / "events.jsonl")
        try:
            return distill(self.run, self.workspace, events, should_stop)
        finally:
            events.close()

    def events(self, kind: str | None = None) -> list[Any]:
        """All records so far, or those of one type."""
        records = list(EventReader(self.workspace / "events.jsonl").read())
        return [record for record in records if kind is None or record.type == kind]


MakeBench = Callable[..., Bench]


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`dataset.safetensors` with 120 + 60 real digits, `teacher.safetensors` with a WRN-10-2 trained on the 120."""
    folder = tmp_path_factory.mktemp("inputs")
    digits = load_digits()
    images = torch.from_numpy(digits.images * (255 / 16)).round().to(torch.uint8)[:, None]
    labels = torch.from_numpy(digits.target).long()
    end = NUM_TRAIN + NUM_TEST
    splits = {
        "train": Split(images[:NUM_TRAIN], labels[:NUM_TRAIN]),
        "test": Split(images[NUM_TRAIN:end], labels[NUM_TRAIN:end]),
    }
    report = DatasetReport(
        format="npz",
        image=TEACHER.image,
        classes=tuple("0123456789"),
        splits={
            name: SplitReport(
                num_images=len(split), class_counts=tuple(split.labels.bincount(minlength=10).tolist())
            )
            for name, split in splits.items()
        },
        normalization=NORMALIZATION,
    )
    save_dataset(folder / "dataset.safetensors", ImageDataset(splits, report))
    save_file(_trained_teacher(splits["train"]), folder / "teacher.safetensors")
    return folder


def _trained_teacher(train: Split) -> dict[str, torch.Tensor]:
    torch.set_num_threads(1)
    torch.manual_seed(7)
    model = build_model(TEACHER)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    images = (train.images.float() / 255 - NORMALIZATION.mean[0]) / NORMALIZATION.std[0]
    for _ in range(25):
        optimizer.zero_grad()
        functional.cross_entropy(model(images), train.labels).backward()
        optimizer.step()
    return model.state_dict()


@pytest.fixture
def recipe() -> Recipe:
    """Two epochs of each phase, three steps an epoch."""
    return Recipe(
        transfer=Transfer(epochs=2, batch_size=40),
        finetune=Finetune(epochs=2, batch_size=40, cross_entropy_weight=0.5),
        augmentation=Augmentation(crop_padding=1, horizontal_flip=False),
    )


@pytest.fixture
def make_bench(tmp_path: Path, inputs: Path, recipe: Recipe) -> MakeBench:
    """Return a function that lays out a workspace: `make_bench(name, recipe=..., student=..., teacher=...)`."""

    def make(name: str = "workspace", **changes: Any) -> Bench:
        workspace = tmp_path / name
        (workspace / "inputs").mkdir(parents=True)
        for file in ("dataset.safetensors", "teacher.safetensors"):
            shutil.copy(inputs / file, workspace / "inputs" / file)
        run = DistillRun(
            **{
                "student": STUDENT,
                "teacher": TEACHER,
                "normalization": NORMALIZATION,
                "recipe": recipe,
                "checkpoint_seconds": 1000,
                **changes,
            }
        )
        (workspace / "run.json").write_text(run.model_dump_json())
        return Bench(workspace, run)

    return make
