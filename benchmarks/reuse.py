"""A second job with the same teacher and data, over the first: its transfer phase finds what the teacher said.

It finds it in its folder, as a job on the same machine does, or fetches it from a blob store (a folder too) while it
runs, as one on another machine does. All are whole runs of the service's own loop, evaluations included, each with
another seed. Random pixels: what they show is not what takes time.
"""

import shutil
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any

import torch
from safetensors.torch import save_file

from abcore.architectures import build_model
from abcore.data.dataset import ImageDataset, Split, save_dataset
from abcore.devices import choose_device, describe_device
from abcore.distillation import distill
from abcore.events import AnswersWanted, EventReader, EventWriter, PhaseFinished
from abcore.specs.architectures import ImageShape, ModelSpec, Normalization
from abcore.specs.reports import DatasetReport, SplitReport
from abcore.specs.runs import DistillRun
from store import schema, shared_answers
from store.blobs import LocalBlobs
from store.database import Database
from store.models import DEFAULT_PROJECT
from worker.answer_cache import AnswerCache
from worker.attempt import RELAY_SECONDS
from worker.sharing import Fetching
from worker.workspace import Workspace

IMAGE = ImageShape(channels=3, height=32, width=32)
NUM_IMAGES = {"cpu": {"train": 1024, "test": 128}, "cuda": {"train": 16384, "test": 2048}}
NORMALIZATION = Normalization(mean=(0.5,) * 3, std=(0.25,) * 3)
TEACHER = {"arch": "wide_resnet", "depth": 22, "width": 4}
STUDENT = {"arch": "wide_resnet", "depth": 16, "width": 2}
EPOCHS = 2


def measure(rounds: int) -> dict[str, Any]:
    """Time the jobs' transfer phases, `rounds` / 10 times (at least once)."""
    device = choose_device()
    seconds = []
    for _ in range(max(1, rounds // 10)):
        with TemporaryDirectory() as folder:
            inputs = _inputs(Path(folder), NUM_IMAGES[device.type])
            with _workspace(Path(folder), inputs, seed=0) as first:
                cold = _transfer_seconds(first, seed=0)
                with _workspace(Path(folder), inputs, seed=1) as second:
                    shutil.copytree(first / "teacher-cache", second / "teacher-cache")
                    warm = _transfer_seconds(second, seed=1)
                with (
                    _workspace(Path(folder), inputs, seed=2) as third,
                    _served(Path(folder), first / "teacher-cache", Workspace(third)),
                ):
                    fetched = _transfer_seconds(third, seed=2)
        seconds.append((cold, warm, fetched))
    return {
        "setting": f"WRN-22-4 to WRN-16-2, {EPOCHS} epochs of {NUM_IMAGES[device.type]['train']} images, a view each, "
        f"{describe_device(device)}",
        "seconds": [[round(each, 2) for each in three] for three in seconds],
        "figures": {
            "second_job": round(statistics.median(warm / cold for cold, warm, _ in seconds), 3),
            "second_machine": round(statistics.median(fetched / cold for cold, _, fetched in seconds), 3),
        },
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


@contextmanager
def _served(folder: Path, made: Path, workspace: Workspace) -> Iterator[None]:
    """A worker's share of a run: what another machine has put into the blob store is fetched as the run asks for it."""
    url, group = f"sqlite:///{folder / 'bench.db'}", "bench"
    schema.upgrade(url)
    db, blobs = Database(url), LocalBlobs(folder / "blobs")
    for path in made.iterdir():
        blob = blobs.put_file(shared_answers.new_key(DEFAULT_PROJECT, group), path)
        shared_answers.add(db, DEFAULT_PROJECT, group, path.name, blob)
    workspace.teacher_cache.mkdir()
    rows = shared_answers.find(db, DEFAULT_PROJECT, group)
    over = Event()
    with Fetching(db, blobs, AnswerCache(folder / "cache", 2**40), workspace, group, rows) as fetching:
        relay = Thread(target=_relay, args=(workspace, fetching, over))
        relay.start()
        try:
            yield
        finally:
            over.set()
            relay.join()
    db.dispose()


def _relay(workspace: Workspace, fetching: Fetching, over: Event) -> None:
    reader = EventReader(workspace.events)
    while not over.wait(RELAY_SECONDS):
        for record in reader.read():
            if isinstance(record, AnswersWanted):
                fetching.fetch(record.files)


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
