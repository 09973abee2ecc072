"""What the service adds to a job: before its first training step, to its whole time, and to its child's memory.

A service on this machine with one slot, in which a child waits. Against it stands the bare loop: `abcore.distillation`
on the same images, teacher and recipe, in a process that does nothing else. Random pixels of Fashion-MNIST's shape.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from abdistill import Client, Job
from safetensors.torch import save_file

from abcore.architectures import build_model
from abcore.distillation import distill
from abcore.events import EventWriter
from abcore.specs.architectures import ModelSpec
from abcore.specs.reports import DistillReport
from abcore.specs.runs import DistillRun, read_run
from benchmarks.processes import wait_for_fork_server, watched_peak
from demo.service import running_service
from store import datasets, jobs, teachers
from store.blobs import open_blobs
from store.database import Database
from store.models import DEFAULT_PROJECT
from store.settings import Settings

IMAGE = {"channels": 1, "height": 28, "width": 28}
NUM_IMAGES = {"train": 6000, "test": 1000}
TEACHER = {
    "architecture": {"arch": "wide_resnet", "depth": 16, "width": 2},
    "image": IMAGE,
    "num_classes": 10,
}
STUDENT = {"arch": "wide_resnet", "depth": 10, "width": 1}
TURNS = 2
RECIPE = {"transfer": {"epochs": 3, "batch_size": 64}, "finetune": {"epochs": 4, "batch_size": 64}}
ONE_STEP = {
    "transfer": None,
    "finetune": {"epochs": 1, "batch_size": 64, "cross_entropy_weight": 1.0, "kd_weight": 0.0},
}


def measure(rounds: int) -> dict[str, Any]:
    """Submit `rounds` / 4 jobs of a step; then twice a long one, and run the bare loop for it."""
    jobs_seconds, bare_seconds, peaks, bare_peaks, waited = [], [], [], [], []
    with TemporaryDirectory() as name:
        folder = Path(name)
        with running_service(folder / "service", folder / "service.log", slots=1) as client:
            _save_images(folder / "few.npz", {"train": 64, "test": 10})
            few = client.datasets.add(folder / "few.npz", name="few").id
            waits = [_seconds_to_first_step(client, folder, few) for _ in range(max(3, rounds // 4))]
            inputs = _upload(client, folder)
            for turn in range(TURNS):
                seconds, peak, job = _whole_job(client, folder, inputs, turn)
                assert job.report is not None
                assert job.report.training_seconds is not None
                assert job.report.data_wait_seconds is not None
                bare = _bare(folder, job.id)
                jobs_seconds.append(seconds)
                bare_seconds.append(bare["training_seconds"])
                peaks.append(peak)
                bare_peaks.append(bare["peak_bytes"])
                waited.append(job.report.data_wait_seconds / job.report.training_seconds)
    return {
        "setting": f"WRN-16-2 to WRN-10-1, {sum(phase['epochs'] for phase in RECIPE.values())} epochs of "
        f"{NUM_IMAGES['train']} images of 28x28, {torch.get_num_threads()} threads, cpu",
        "seconds": {
            "to first step": [round(each, 3) for each in waits],
            "job": [round(each, 1) for each in jobs_seconds],
            "bare loop": [round(each, 1) for each in bare_seconds],
        },
        "figures": {
            "to_first_step": round(statistics.median(waits), 3),
            "whole_job": round(sum(jobs_seconds) / sum(bare_seconds), 3),
            "memory": round(max(peaks) / max(bare_peaks), 3),
            "data_wait": round(max(waited), 5),
        },
    }


def _seconds_to_first_step(client: Client, folder: Path, dataset: str) -> float:
    """From before the request to the end of the job's only step, by the clock that both share."""
    wait_for_fork_server(folder / "service")
    started = time.time()
    job = client.jobs.create(dataset=dataset, student=STUDENT, recipe=ONE_STEP)
    client.jobs.wait(job.id, poll_seconds=0.1)
    (loss,) = client.jobs.metrics(job.id, name="loss").data
    assert loss.time is not None
    return loss.time.timestamp() - started


def _upload(client: Client, folder: Path) -> dict[str, Any]:
    """The teacher and the dataset of the long jobs."""
    model = build_model(ModelSpec.model_validate(TEACHER))
    save_file(model.state_dict(), folder / "teacher.safetensors")
    _save_images(folder / "images.npz", NUM_IMAGES)
    return {
        "teacher": client.teachers.add(folder / "teacher.safetensors", name="teacher", model=TEACHER).id,
        "dataset": client.datasets.add(folder / "images.npz", name="images").id,
    }


def _whole_job(client: Client, folder: Path, inputs: dict[str, Any], turn: int) -> tuple[float, int, Job]:
    """Seconds from the request to the student on this disk, and the child's peak in bytes.

    It is followed, not polled: ten questions a second took a twelfth of a core from the training. Each turn has
    a seed of its own: what the teacher said of another one's views is of no use.
    """
    wait_for_fork_server(folder / "service")
    with watched_peak(folder / "service") as peak:
        started = time.perf_counter()
        job = client.jobs.create(**inputs, student=STUDENT, recipe=RECIPE | {"seed": turn})
        *_, end = client.jobs.follow(job.id)
        client.jobs.download(job.id, "student.safetensors", folder / "student.safetensors")
        seconds = time.perf_counter() - started
    assert isinstance(end, Job)
    return seconds, peak[-1], end


def _bare(folder: Path, job_id: str) -> dict[str, float]:
    """Run what the job's child was given, with nothing around it."""
    settings = Settings(data_dir=folder / "service")
    db, blobs = Database(settings.database_url), open_blobs(settings.blobs_url)
    job = jobs.get(db, DEFAULT_PROJECT, job_id)
    assert job.teacher_id is not None
    assert job.dataset_id is not None
    workspace = folder / f"bare-{job_id}"
    inputs = workspace / "inputs"
    inputs.mkdir(parents=True)
    (workspace / "outputs").mkdir()
    (workspace / "run.json").write_text(json.dumps(job.run))
    for name, row in (
        ("teacher", teachers.get(db, DEFAULT_PROJECT, job.teacher_id)),
        ("dataset", datasets.get(db, DEFAULT_PROJECT, job.dataset_id)),
    ):
        assert row.blob_key is not None
        assert row.sha256 is not None
        blobs.fetch(row.blob_key, inputs / f"{name}.safetensors", row.sha256)
    db.dispose()
    command = [sys.executable, "-m", "benchmarks.service", str(workspace)]
    environment = dict(os.environ) | {"OMP_WAIT_POLICY": "PASSIVE"}  # as the service's children have it
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    figures: dict[str, float] = json.loads(told.stdout)
    return figures


def _bare_loop(workspace: Path) -> None:
    run = read_run(workspace / "run.json")
    assert isinstance(run, DistillRun)
    events = EventWriter(workspace / "events.jsonl")
    report = distill(run, workspace, events, lambda: False).report
    assert isinstance(report, DistillReport)
    events.close()
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"training_seconds": report.training_seconds, "peak_bytes": peak_bytes}))


def _save_images(path: Path, num_images: dict[str, int]) -> None:
    generator = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, count in num_images.items():
        arrays[f"{split}_images"] = generator.integers(0, 256, (count, 28, 28), np.uint8)
        arrays[f"{split}_labels"] = np.arange(count) % 10
    np.savez(path, **arrays)


if __name__ == "__main__":
    _bare_loop(Path(sys.argv[1]))
