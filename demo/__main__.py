"""`make demo`, or `DATASET=fashion-mnist DATA=path make demo`. Exit code 0: every check of integrity held."""

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from types import FrameType

import torch
from abdistill import AbdistillError, Client, Job, JobFailed, Teacher
from abdistill.cli.watching import show_updates
from rich.console import Console

from abcore.architectures import build_model
from abcore.specs.architectures import ModelSpec
from demo import check
from demo.data import Data, load
from demo.jobs import PLANS, STUDENT, TEACHER, Plan
from demo.service import running_service
from demo.table import Column, as_figures, comparison
from demo.teacher import train

OUTPUT = Path("demo-output")
SEED = 0
console = Console(highlight=False)


def main() -> int:
    """Run the demo in `demo-output/`; the service's own files are removed at the end."""
    signal.signal(signal.SIGTERM, _interrupt)
    started = time.monotonic()
    name = os.environ.get("DATASET") or "digits"
    folder = Path(os.environ["DATA"]) if os.environ.get("DATA") else None
    data = load(name, folder)
    plan = PLANS[name]
    OUTPUT.mkdir(exist_ok=True)
    _step(1, f"A teacher on {data.title}: WRN-16-2, plain PyTorch, {plan.teacher_epochs} epochs")
    teacher_accuracy = _train_teacher(data, plan)
    service_dir = OUTPUT / "service"
    shutil.rmtree(service_dir, ignore_errors=True)
    try:
        _step(2, "The service: broker, API and worker, on a free port")
        with running_service(service_dir, OUTPUT / "service.log") as client:
            console.print(f"  at {client.base_url}, log in {OUTPUT / 'service.log'}")
            figures, faults = _distil(client, data, plan, name, teacher_accuracy)
    finally:
        shutil.rmtree(service_dir, ignore_errors=True)
    for fault in faults:
        console.print(f"[red]not as the service says:[/red] {fault}")
    summary = {"dataset": name, **figures, "seconds": round(time.monotonic() - started, 1), "faults": faults}
    print(json.dumps(summary), flush=True)
    return 1 if faults else 0


def _train_teacher(data: Data, plan: Plan) -> float:
    torch.manual_seed(SEED)
    if plan.threads is not None:
        torch.set_num_threads(plan.threads)
    spec = ModelSpec.model_validate(_teacher_spec(data))
    model = build_model(spec)
    say = lambda line: console.print(f"  {line}")  # noqa: E731 - the indent is all it adds
    return train(model, data, epochs=plan.teacher_epochs, path=OUTPUT / "teacher.pt", say=say)


def _teacher_spec(data: Data) -> dict[str, object]:
    return {"architecture": TEACHER, "image": data.image.model_dump(), "num_classes": data.num_classes}


def _distil(
    client: Client, data: Data, plan: Plan, name: str, teacher_accuracy: float
) -> tuple[dict[str, object], list[str]]:
    _step(3, "Uploads over HTTP: the state dict and the images")
    data.save(OUTPUT / f"{name}.npz")
    teacher = client.teachers.add(
        OUTPUT / "teacher.pt",
        model=_teacher_spec(data),
        name=f"WRN-16-2 on {data.title}",
        normalization=data.normalization.model_dump(mode="json"),
    )
    dataset = client.datasets.add(OUTPUT / f"{name}.npz", name=data.title)
    console.print(f"  {teacher.id} and {dataset.id} are verified and ready")
    _step(
        4,
        f"Two jobs: WRN-10-1 distilled, and alone, {plan.transfer_epochs + plan.finetune_epochs} epochs each",
    )
    recipes = {"distilled": (teacher.id, plan.distilled()), "alone": (None, plan.alone())}
    jobs = {
        kind: client.jobs.create(
            name=kind, dataset=dataset.id, teacher=teacher_id, student=STUDENT, recipe=recipe
        )
        for kind, (teacher_id, recipe) in recipes.items()
    }
    columns: dict[str, Column] = {"teacher": _teacher_column(teacher, teacher_accuracy)}
    faults: list[str] = []
    for kind, submitted in jobs.items():
        console.print(f"  {submitted.id}, {kind}:")
        job = show_updates(client.jobs.watch(submitted.id, poll_seconds=0.5))
        if job.state != "succeeded":
            raise JobFailed(job)
        columns[kind], found = _fetch(client, job, kind, data)
        faults += [f"{kind}: {fault}" for fault in found]
    _step(5, "Each student was downloaded, rebuilt from its own metadata, and measured by the demo itself")
    console.print(comparison(data.title, columns["teacher"], columns["distilled"], columns["alone"]))
    return as_figures(**columns), faults


def _teacher_column(teacher: Teacher, test_accuracy: float) -> Column:
    assert teacher.report is not None, "a ready teacher has its report"
    found = teacher.report.description
    size = (OUTPUT / "teacher.pt").stat().st_size
    return Column("teacher", found.num_parameters, found.num_macs, size, test_accuracy)


def _fetch(client: Client, job: Job, kind: str, data: Data) -> tuple[Column, list[str]]:
    """Download a student, and hold it against what the service says."""
    path = client.jobs.download(job.id, "student.safetensors", OUTPUT / f"student-{kind}.safetensors")
    artifact = next(item for item in client.jobs.artifacts(job.id) if item.name == "student.safetensors")
    assert job.report is not None, "a job that has succeeded has its report"
    student = check.load_and_measure(path, data)
    column = Column(
        f"student {kind}",
        student.num_parameters,
        job.report.student.num_macs,
        student.file_bytes,
        student.test_accuracy,
        job.report.boundary_similarity,
    )
    return column, check.differences(student, artifact, job.report)


def _step(number: int, what: str) -> None:
    console.print(f"\n[bold]{number}. {what}[/bold]")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    try:
        sys.exit(main())
    except AbdistillError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
