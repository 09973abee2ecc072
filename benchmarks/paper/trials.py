"""Running trials, each once, and keeping what came out: one row of `runs.csv` a run.

Experiments may have runs in common: `runs.csv` has each once, under the experiment that came first.
"""

import csv
import hashlib
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import torch

from abcore.data.dataset import load_dataset
from abcore.distillation import distill
from abcore.events import EventWriter
from abcore.specs.architectures import ModelSpec
from abcore.specs.reports import DistillReport
from abcore.specs.runs import DistillRun
from benchmarks.paper.experiments import Trial
from benchmarks.paper.material import Material
from benchmarks.paper.scales import Scale

Row = dict[str, str]
COLUMNS = (
    "experiment", "arm", "x", "seed", "top1", "teacher_top1", "agreement", "similarity", "similarity_before",
    "similarity_by_tap", "student_parameters", "train_images", "epochs", "wall_seconds", "threads", "torch", "commit",
    "run",
)  # fmt: skip
"""Accuracies and similarities are shares, 0..1. `similarity` is the mean over taps on test images, behind connectors,
at the end of the transfer phase; `run` is the digest of everything that decides the run."""


@dataclass(frozen=True)
class Planned:
    """A trial of an experiment with its inputs."""

    experiment: str
    trial: Trial
    run: DistillRun
    dataset: Path
    teacher: Path

    @property
    def digest(self) -> str:
        """What decides the outcome: the run, and which files it reads. Two trials that agree in it are run once."""
        decisive = [self.run.model_dump(mode="json"), self.dataset.name, self.teacher.name]
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]


def plan(experiment: str, trial: Trial, scale: Scale, material: Material) -> Planned:
    """Find a trial's inputs, made if they are not there yet, and validate its run."""
    dataset, teacher = material.images(trial.share, paired=trial.other_labels), material.teacher()
    report = load_dataset(dataset).report
    spec = ModelSpec.model_validate(
        {"architecture": scale.teacher, "image": report.image, "num_classes": material.num_classes}
    )
    run = DistillRun.model_validate(
        {
            "student": trial.student,
            "teacher": spec,
            "normalization": report.normalization,
            "recipe": trial.recipe,
        }
    )
    return Planned(experiment, trial, run, dataset, teacher)


def run_all(planned: Iterable[Planned], results: Path, *, num_processes: int) -> list[Row]:
    """Run what `results` does not hold yet, a thread each, and return the rows of all, in order.

    A run's row is appended when it ends, so that an interrupted experiment goes on where it was.
    """
    wanted = list(planned)
    done = {row["run"]: row for row in read(results)}
    missing = {item.digest: item for item in wanted if item.digest not in done}
    commit = _commit()
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_processes, spawning, torch.set_num_threads, (1,)) as pool:
        futures = [pool.submit(_run, item, results.parent, commit) for item in missing.values()]
        for number, future in enumerate(as_completed(futures), 1):
            row = future.result()
            done[row["run"]] = row
            _append(results, row)
            where = f"{row['experiment']} {row['arm']} {row['x']} seed {row['seed']}"
            print(
                f"[{number}/{len(futures)}] {where}: top-1 {float(row['top1']):.2%}, {row['wall_seconds']} s",
                flush=True,
            )
    return [{**done[item.digest], **_labels(item)} for item in wanted]


def read(results: Path) -> list[Row]:
    """Return the rows of such a file; none if there is no file."""
    if not results.exists():
        return []
    with results.open(newline="") as file:
        return list(csv.DictReader(file))


def write(results: Path, rows: Sequence[Row]) -> None:
    """Write rows with a heading."""
    with results.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _run(planned: Planned, folder: Path, commit: str) -> Row:
    workspace = folder / "workspaces" / f"{planned.digest}-{os.getpid()}"
    shutil.rmtree(workspace, ignore_errors=True)
    (workspace / "inputs").mkdir(parents=True)
    os.link(planned.dataset, workspace / "inputs" / "dataset.safetensors")
    os.link(planned.teacher, workspace / "inputs" / "teacher.safetensors")
    events = EventWriter(workspace / "events.jsonl")
    started = time.monotonic()
    result = distill(planned.run, workspace, events, lambda: False)
    wall_seconds = time.monotonic() - started
    events.close()
    shutil.rmtree(workspace)
    assert isinstance(result.report, DistillReport)
    recipe = planned.run.recipe
    return {
        **_labels(planned),
        **_figures(result.report),
        "train_images": str(len(load_dataset(planned.dataset).splits["train"])),
        "epochs": str(sum(phase.epochs for phase in (recipe.transfer, recipe.finetune) if phase)),
        "wall_seconds": f"{wall_seconds:.1f}",
        "threads": str(torch.get_num_threads()),
        "torch": str(torch.__version__),
        "commit": commit,
        "run": planned.digest,
    }


def _labels(planned: Planned) -> Row:
    trial = planned.trial
    return {"experiment": planned.experiment, "arm": trial.arm, "x": trial.x, "seed": str(trial.seed)}


def _figures(report: DistillReport) -> Row:
    taps = report.boundary_similarity
    before, after = ([getattr(tap, when) for tap in taps] for when in ("before", "after"))
    teacher = report.teacher_accuracy.get("test")
    return {
        "top1": f"{report.student_accuracy['test'].top1:.5f}",
        "teacher_top1": "" if teacher is None else f"{teacher.top1:.5f}",
        "agreement": f"{report.agreement['test']:.5f}" if "test" in report.agreement else "",
        "similarity": f"{statistics.mean(after):.5f}" if taps else "",
        "similarity_before": f"{statistics.mean(before):.5f}" if taps else "",
        "similarity_by_tap": " ".join(f"{share:.4f}" for share in after),
        "student_parameters": str(report.student.num_parameters),
    }


def _append(results: Path, row: Row) -> None:
    if not results.exists():
        write(results, [])
    with results.open("a", newline="") as file:
        csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(row)


def _commit() -> str:
    """The working tree's commit, with a plus where it has changes; runs are slow, and code moves."""
    described = subprocess.run(
        ["git", "describe", "--always", "--abbrev=10", "--dirty=+"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or "unknown"
