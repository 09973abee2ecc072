"""A second job with the same teacher and data, over the first: its transfer phase finds what the teacher said.

Both are whole runs of the service's own loop, evaluations included, another seed the second time. Random pixels:
what they show is not what takes time.
"""

import shutil
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import save_file

from abcore.architectures import build_model
from abcore.data.dataset import ImageDataset, Split, save_dataset
from abcore.devices import choose_device, describe_device
from abcore.distillation import distill
from abcore.events import EventReader, EventWriter, PhaseFinished
from abcore.specs.architectures import ImageShape, ModelSpec, Normalization
from abcore.specs.reports import DatasetReport, SplitReport
from abcore.specs.runs import DistillRun

IMAGE = ImageShape(channels=3, height=32, width=32)
NUM_IMAGES = {"cpu": {"train": 1024, "test": 128}, "cuda": {"train": 16384, "test": 2048}}
NORMALIZATION = Normalization(mean=(0.5,) * 3, std=(0.25,) * 3)
TEACHER = {"arch": "wide_resnet", "depth": 22, "width": 4}
STUDENT = {"arch": "wide_resnet", "depth": 16, "width": 2}
EPOCHS = 2


def measure(rounds: int) -> dict[str, Any]:
    """Time both jobs' transfer phases, `rounds` / 10 times (at least once)."""
    device = choose_device()
    ratios, seconds = [], []
    for _ in range(max(1, rounds // 10)):
        with TemporaryDirectory() as folder:
            inputs = _inputs(Path(folder), NUM_IMAGES[device.type])
            with _workspace(Path(folder), inputs, seed=0) as first:
                cold = _transfer_seconds(first, seed=0)
                with _workspace(Path(folder), inputs, seed=1) as second:
                    shutil.copytree(first / "teacher-cache", second / "teacher-cache")
                    warm = _transfer_seconds(second, seed=1)
        seconds.append((cold, warm))
        ratios.append(warm / cold)
    return {
        "setting": f"WRN-22-4 to WRN-16-2, {EPOCHS} epochs of {NUM_IMAGES[device.type]['train']} images, a view each, "
        f"{describe_device(device)}",
        "seconds": [[round(each, 2) for each in pair] for pair in seconds],
        "figures": {"second_job": round(statistics.median(ratios), 3)},
    }


def _inputs(folder: Path, num_images: dict[str, int]) -> Path:
    torch.manual_seed(0)
    inputs = folder / "inputs"
    inputs.mkdir()
    splits = {
        name: Split(
            torch.randint(0, 256, (count, IMAGE.channels, IMAGE.height, IMAGE.width), dtype=torch.uint8),
            torch.randint(10, (count,)),
        )
        for name, count in num_images.items()
    }
    report = DatasetReport(
        format="npz",
        image=IMAGE,
        classes=tuple("0123456789"),
        splits={
            name: SplitReport(
                num_images=len(split), class_counts=tuple(split.labels.bincount(minlength=10).tolist())
            )
            for name, split in splits.items()
        },
        normalization=NORMALIZATION,
    )
    save_dataset(inputs / "dataset.safetensors", ImageDataset(splits, report))
    save_file(build_model(_teacher()).state_dict(), inputs / "teacher.safetensors")
    return inputs


def _teacher() -> ModelSpec:
    return ModelSpec.model_validate({"architecture": TEACHER, "image": IMAGE, "num_classes": 10})


@contextmanager
def _workspace(folder: Path, inputs: Path, *, seed: int) -> Iterator[Path]:
    workspace = folder / f"job-{seed}"
    shutil.copytree(inputs, workspace / "inputs")
    yield workspace
    shutil.rmtree(workspace)


def _transfer_seconds(workspace: Path, *, seed: int) -> float:
    recipe = {
        "seed": seed,
        "transfer": {"epochs": EPOCHS, "batch_size": 64},
        "finetune": None,
        "augmentation": {"view_seed": 0},
    }
    run = DistillRun.model_validate(
        {"student": STUDENT, "teacher": _teacher(), "normalization": NORMALIZATION, "recipe": recipe}
    )
    events = EventWriter(workspace / "events.jsonl")
    distill(run, workspace, events, lambda: False)
    events.close()
    records = EventReader(workspace / "events.jsonl").read()
    (finished,) = (record for record in records if isinstance(record, PhaseFinished))
    return finished.seconds
