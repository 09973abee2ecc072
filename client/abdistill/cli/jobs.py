"""`abdistill jobs` and `abdistill download`."""

from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from abdistill.cli import parsing
from abdistill.cli.rendering import print_fields, print_json, print_list, size, state
from abdistill.cli.session import JsonOption, TimeoutOption, client_of, err, out
from abdistill.cli.transfers import transfer_bar
from abdistill.cli.watching import show_updates
from abdistill.client import Client
from abdistill.errors import JobCancelled, JobFailed
from abdistill.models import Job
from abdistill.reports import Export

jobs = typer.Typer(no_args_is_help=True, help="Distillations: submit, watch, cancel.")


@jobs.command()
def submit(
    context: typer.Context,
    dataset: Annotated[str, typer.Option(help="Id of the dataset (dst_...).")],
    student: Annotated[str, typer.Option(help="wide_resnet:depth=10,width=1, or JSON, or a JSON file.")],
    teacher: Annotated[str | None, typer.Option(help="Id of the teacher (tch_...).")] = None,
    preset: Annotated[
        str | None, typer.Option(help="Recipe to start from; `abdistill jobs presets` lists them.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="JSON file, or inline JSON; the rest is the preset's, or the default's."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="One recipe field: transfer.epochs=5"),
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format", help="To leave the student in as well: onnx, onnx-int8, pt2, safetensors-fp16 ..."
        ),
    ] = None,
    required: Annotated[
        list[str] | None, typer.Option("--require", metavar="FORMAT", help="As well, or the job shall fail.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="What to call it.")] = None,
    labels: Annotated[list[str] | None, typer.Option("--label", metavar="KEY=VALUE")] = None,
    priority: Annotated[
        int | None, typer.Option(help="-100 to 100; higher goes first.  [default: 0]")
    ] = None,
    max_runtime: Annotated[
        int | None, typer.Option(min=1, metavar="SECONDS", help="It fails when it has run for so long.")
    ] = None,
    devices: Annotated[int | None, typer.Option(help="GPUs that share each batch.  [default: 1]")] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="The same key again gives the same job, not a second one.")
    ] = None,
    watch_it: Annotated[bool, typer.Option("--watch", help="Show its progress until it ends.")] = False,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Submit a distillation. A job that cannot work is refused at once, and the refusal says why."""
    client = client_of(context)
    job = client.jobs.create(
        dataset=dataset,
        teacher=teacher,
        student=parsing.architecture(student),
        preset=preset,
        recipe=parsing.recipe(recipe, settings or []) or None,
        outputs={key: value for key, value in (("formats", formats), ("required", required)) if value}
        or None,
        name=name,
        labels={key: str(value) for key, value in parsing.assignments(labels or []).items()} or None,
        priority=priority,
        max_runtime_seconds=max_runtime,
        devices=devices,
        idempotency_key=idempotency_key,
    )
    if watch_it:
        err.print(f"submitted {job.id}")
        _watch(client, job.id, timeout, as_json=as_json)
    else:
        _show(job, as_json=as_json)


@jobs.command()
def presets(context: typer.Context, as_json: JsonOption = False) -> None:
    """Recipes to start from; --json shows every field."""
    found = client_of(context).jobs.presets()
    if as_json:
        print_json(found)
        return
    for preset in found:
        out.print(f"[bold]{preset.name}[/bold]  {preset.description}")


@jobs.command()
def clone(
    context: typer.Context,
    job_id: str,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="student.width=2, recipe.transfer.epochs=5 ..."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="What to call it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Submit a job like another, in whatever state that is, with some fields changed."""
    changes = parsing.laid_over({}, settings or []) | ({"name": name} if name else {})
    _show(client_of(context).jobs.clone(job_id, **changes), as_json=as_json)


@jobs.command("list")
def list_jobs(
    context: typer.Context,
    states: Annotated[
        list[str] | None, typer.Option("--state", help="queued, running, succeeded, failed ...")
    ] = None,
    methods: Annotated[list[str] | None, typer.Option("--method", help="ab, kd, fitnet ...")] = None,
    kind: Annotated[str | None, typer.Option(help="distill or teacher.train.  [default: distill]")] = None,
    sweep: Annotated[str | None, typer.Option(help="Those of a sweep (swp_...).")] = None,
    teacher: Annotated[str | None, typer.Option(help="Those of a teacher (tch_...).")] = None,
    dataset: Annotated[str | None, typer.Option(help="Those on a dataset (dst_...).")] = None,
    labels: Annotated[
        list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="Those that have it.")
    ] = None,
    order: Annotated[
        str | None, typer.Option(help="newest, oldest, priority or ended.  [default: newest]")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Show at most this many.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Jobs that fit all that is given; of what may be given several times, any."""
    shown = client_of(context).jobs.all(
        kind=kind,
        state=states or None,
        method=methods or None,
        sweep=sweep,
        teacher=teacher,
        dataset=dataset,
        labels={key: str(value) for key, value in parsing.assignments(labels or []).items()},
        order=order,
    )
    found = list(islice(shown, limit + 1))
    if as_json:
        print_json(found[:limit])
    else:
        print_list(found[:limit], more=len(found) > limit)


@jobs.command()
def show(context: typer.Context, job_id: str, as_json: JsonOption = False) -> None:
    """One job, with its result where it has one."""
    _show(client_of(context).jobs.get(job_id), as_json=as_json)


@jobs.command()
def watch(
    context: typer.Context, job_id: str, timeout: TimeoutOption = None, as_json: JsonOption = False
) -> None:
    """Show a job's progress until it ends; exit code 1 if it ends without a student."""
    _watch(client_of(context), job_id, timeout, as_json=as_json)


@jobs.command()
def cancel(context: typer.Context, job_id: str, as_json: JsonOption = False) -> None:
    """Ask for a job's end: at once where it waits, within seconds where it runs."""
    _show(client_of(context).jobs.cancel(job_id), as_json=as_json)


@jobs.command()
def pause(context: typer.Context, job_id: str, as_json: JsonOption = False) -> None:
    """Pause a job: at once while it waits; a running one saves where it is."""
    _show(client_of(context).jobs.pause(job_id), as_json=as_json)


@jobs.command()
def resume(context: typer.Context, job_id: str, as_json: JsonOption = False) -> None:
    """Queue a paused job again."""
    _show(client_of(context).jobs.resume(job_id), as_json=as_json)


@jobs.command()
def retry(context: typer.Context, job_id: str, as_json: JsonOption = False) -> None:
    """Run a failed or cancelled job again, as a new one."""
    _show(client_of(context).jobs.retry(job_id), as_json=as_json)


@jobs.command()
def delete(context: typer.Context, job_id: str) -> None:
    """Delete a job that has ended, with all that it left."""
    client_of(context).jobs.delete(job_id)


def download(
    context: typer.Context,
    job_id: str,
    target: Annotated[Path, typer.Option("--output", "-o", help="A folder, or the file to write.")] = Path(),
    artifact: Annotated[
        str | None, typer.Option(help="Which file of the job.  [default: student.safetensors]")
    ] = None,
    student_format: Annotated[
        str | None, typer.Option("--format", help="Instead: the student in this format, e.g. onnx.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch what a job made. Goes on where an interrupted download stopped; the sha256 is checked."""
    client = client_of(context)
    if artifact is not None and student_format is not None:
        raise typer.BadParameter("--artifact names a file, --format a format of the student: give one")
    artifact = (
        client.jobs.file_of(job_id, student_format) if student_format else artifact or "student.safetensors"
    )
    with transfer_bar(f"downloading {artifact}") as progress:
        path = client.jobs.download(job_id, artifact, target, progress=progress)
    if as_json:
        print_json(next(item for item in client.jobs.artifacts(job_id) if item.name == artifact))
    else:
        out.print(str(path), markup=False)


def _watch(client: Client, job_id: str, timeout: float | None, *, as_json: bool) -> None:
    job = show_updates(client.jobs.watch(job_id, timeout_seconds=timeout))
    _show(job, as_json=as_json)
    if job.state != "succeeded":
        raise (JobCancelled if job.state == "cancelled" else JobFailed)(job)


def _show(job: Job, *, as_json: bool) -> None:
    if as_json:
        print_json(job)
        return
    plan = job.plan
    print_fields(
        {
            "id": job.id,
            "name": job.name,
            "state": state(job.state),
            "reason": job.waiting.message if job.waiting else job.state_reason,
            "progress": f"{job.progress:.0%} {job.phase or ''}" if job.progress else None,
            "teacher": job.teacher,
            "dataset": job.dataset,
            "made from": job.retry_of or job.clone_of,
            "sweep": job.sweep,
            "student": job.student or None,
            "parameters": f"{plan.student.num_parameters:,}" if plan else None,
            "compression": f"{plan.compression:.1f}x" if plan and plan.compression else None,
            "has run": _run_time(job),
        }
    )
    if job.report:
        _print_report(job)
    for problem in job.problems:
        out.print(f"- {problem}", markup=False)


def _run_time(job: Job) -> str | None:
    if not job.run_seconds and job.max_runtime_seconds is None:
        return None
    limit = f" of at most {job.max_runtime_seconds:,} s" if job.max_runtime_seconds else ""
    return f"{job.run_seconds:,.0f} s{limit}"


def _print_report(job: Job) -> None:
    report = job.report
    assert report is not None
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("", "student", "teacher"):
        table.add_column(heading, justify="right" if heading else "left")
    teacher = report.teacher
    table.add_row(
        "parameters", f"{report.student.num_parameters:,}", f"{teacher.num_parameters:,}" if teacher else ""
    )
    table.add_row("MACs", f"{report.student.num_macs:,}", f"{teacher.num_macs:,}" if teacher else "")
    table.add_row("size", size(report.student.size_bytes), size(teacher.size_bytes) if teacher else "")
    for split, accuracy in report.student_accuracy.items():
        other = (report.teacher_accuracy or {}).get(split)
        table.add_row(f"top-1, {split}", f"{accuracy.top1:.2%}", f"{other.top1:.2%}" if other else "")
    out.print(table)
    for export in report.exports:
        out.print(_export_line(export), markup=False)
    for tap in report.boundary_similarity:
        before, after = (f"{value:.1%}" if value is not None else "-" for value in (tap.before, tap.after))
        out.print(f"boundary similarity at {tap.student}: {before} -> {after}", markup=False)


def _export_line(export: Export) -> str:
    if export.file is None:
        return f"{export.format}: not made: {export.error}"
    measured = [f"{accuracy.top1:.2%} on {split}" for split, accuracy in export.accuracy.items()]
    return f"{export.format}: " + ", ".join([export.file, *measured])
