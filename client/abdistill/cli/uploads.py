"""`abdistill teachers` and `abdistill datasets`."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from abdistill.cli import parsing
from abdistill.cli.rendering import print_fields, print_json, print_list, size, state, summary
from abdistill.cli.session import JsonOption, TimeoutOption, client_of, out
from abdistill.cli.transfers import spinner, transfer_bar
from abdistill.errors import ConfigurationError
from abdistill.models import Dataset, Teacher
from abdistill.reports import DatasetReport, TeacherReport
from abdistill.uploaded import Datasets, Teachers

teachers = typer.Typer(no_args_is_help=True, help="Trained networks that students learn from.")
datasets = typer.Typer(no_args_is_help=True, help="Labelled images.")

File = Annotated[
    str,
    typer.Argument(
        show_default=False,
        help="A file here; or an address that the service fetches it from, s3://bucket/key or file:///path on its "
        "machines, where its operator allows that.",
    ),
]
Name = Annotated[str | None, typer.Option(help="What to call it; the file's name where none is given.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the service has checked the file.")]
Limit = Annotated[int, typer.Option(min=1, help="Show at most this many, newest first.")]


@teachers.command("add")
def add_teacher(
    context: typer.Context,
    file: File,
    model: Annotated[str, typer.Option(help="wide_resnet:depth=16,width=2, or JSON, or a JSON file.")],
    image: Annotated[
        str | None, typer.Option(metavar="CxHxW", help="The image that it takes, e.g. 3x32x32.")
    ] = None,
    classes: Annotated[int | None, typer.Option(min=2, help="How many classes it tells apart.")] = None,
    mean: Annotated[
        str | None, typer.Option(help="Per-channel mean of its training, e.g. 0.48,0.46,0.41.")
    ] = None,
    std: Annotated[str | None, typer.Option(help="Per-channel standard deviation, as --mean.")] = None,
    name: Name = None,
    wait: Wait = True,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Upload a teacher's checkpoint: .safetensors, or a .pt/.pth state dict."""
    if (mean is None) != (std is None):
        raise typer.BadParameter("--mean and --std belong together: give both or none")
    normalization = {"mean": _numbers(mean), "std": _numbers(std)} if mean and std else None
    resources = client_of(context).teachers
    spec = parsing.model(model, image, classes)
    with transfer_bar(f"uploading {Path(file).name}") as progress:
        teacher = resources.add(
            file, model=spec, name=name, normalization=normalization, progress=progress, wait=False
        )
    _finish_add(resources, teacher, wait=wait, timeout=timeout, as_json=as_json)


@teachers.command("train")
def train_teacher(
    context: typer.Context,
    dataset: Annotated[str, typer.Option(help="Id of the dataset (dst_...).")],
    architecture: Annotated[str, typer.Option(help="wide_resnet:depth=16,width=2, or JSON, or a JSON file.")],
    name: Annotated[str, typer.Option(help="What to call it.")] = "teacher",
    recipe: Annotated[
        str | None, typer.Option(help="JSON file, or inline JSON; the rest is that of labels alone.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="One recipe field: finetune.epochs=20"),
    ] = None,
    devices: Annotated[int, typer.Option(help="GPUs that share each batch.")] = 1,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is trained.")] = True,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have the service train a teacher on a dataset's labels; `jobs watch` shows its job's progress."""
    resources = client_of(context).teachers
    teacher = resources.train(
        name,
        dataset=dataset,
        architecture=parsing.architecture(architecture),
        recipe=parsing.recipe(recipe, settings or []) or None,
        devices=devices,
    )
    if wait:
        with spinner(f"the service trains {teacher.name} (job {teacher.training_job_id})"):
            teacher = resources.wait(teacher.id, timeout_seconds=timeout)
    _show(teacher, as_json=as_json)


@teachers.command("combine")
def combine_teachers(
    context: typer.Context,
    members: Annotated[list[str], typer.Argument(help="Ids of the teachers (tch_...), two or more.")],
    name: Annotated[str, typer.Option(help="What to call it.")] = "ensemble",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is made.")] = True,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an ensemble of teachers one teacher, which answers with the mean of their probabilities."""
    resources = client_of(context).teachers
    _finish_add(resources, resources.combine(name, members), wait=wait, timeout=timeout, as_json=as_json)


@teachers.command("evaluate")
def evaluate_teacher(
    context: typer.Context,
    teacher_id: str,
    dataset: Annotated[str, typer.Option(help="Id of a dataset of its classes (dst_...).")],
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a teacher on a dataset's held-out splits; warns where it is no better than chance."""
    resources = client_of(context).teachers
    with spinner(f"the service measures {teacher_id}"):
        evaluation = resources.evaluate(teacher_id, dataset, timeout_seconds=timeout)
    if as_json:
        print_json(evaluation)
    else:
        print_fields(
            {"id": evaluation.id, "state": state(evaluation.state), "because": evaluation.state_reason}
            | {
                split: f"top-1 {found.top1:.2%}, top-5 {found.top5:.2%} of {found.num_images:,} images"
                for split, found in evaluation.accuracy.items()
            }
        )
        for problem in evaluation.problems:
            out.print(f"- {problem}", markup=False)
        for warning in evaluation.warnings:
            out.print(f"warning: {warning}", markup=False)
    if evaluation.state != "succeeded":
        raise typer.Exit(1)


@datasets.command("add")
def add_dataset(
    context: typer.Context,
    file: File,
    image_size: Annotated[
        int | None, typer.Option(help="Resize and centre-crop to this square, in pixels.")
    ] = None,
    holdout: Annotated[
        float | None, typer.Option(help="Share of train to hold out where the file has no val or test.")
    ] = None,
    name: Name = None,
    wait: Wait = True,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Upload a dataset: an archive of class folders, of idx files, of parquet files, or WebDataset; .npz; .parquet."""
    resources = client_of(context).datasets
    with transfer_bar(f"uploading {Path(file).name}") as progress:
        dataset = resources.add(
            file, name=name, image_size=image_size, holdout_fraction=holdout, progress=progress, wait=False
        )
    _finish_add(resources, dataset, wait=wait, timeout=timeout, as_json=as_json)


def _finish_add(
    resources: Teachers | Datasets,
    resource: Teacher | Dataset,
    *,
    wait: bool,
    timeout: float | None,
    as_json: bool,
) -> None:
    if wait:
        with spinner(f"the service checks {resource.name}"):
            resource = resources.wait(resource.id, timeout_seconds=timeout)
    _show(resource, as_json=as_json)


@teachers.command("list")
def list_teachers(context: typer.Context, limit: Limit = 20, as_json: JsonOption = False) -> None:
    """Teachers, newest first."""
    _list(client_of(context).teachers, limit, as_json=as_json)


@datasets.command("list")
def list_datasets(context: typer.Context, limit: Limit = 20, as_json: JsonOption = False) -> None:
    """Datasets, newest first."""
    _list(client_of(context).datasets, limit, as_json=as_json)


def _list(resources: Iterable[Teacher | Dataset], limit: int, *, as_json: bool) -> None:
    found = list(islice(resources, limit + 1))
    if as_json:
        print_json(found[:limit])
    else:
        print_list(found[:limit], more=len(found) > limit)


@teachers.command("show")
def show_teacher(context: typer.Context, teacher_id: str, as_json: JsonOption = False) -> None:
    """One teacher, with what the service found in its checkpoint."""
    _show(client_of(context).teachers.get(teacher_id), as_json=as_json)


@datasets.command("show")
def show_dataset(context: typer.Context, dataset_id: str, as_json: JsonOption = False) -> None:
    """One dataset, with what the service found in its file."""
    _show(client_of(context).datasets.get(dataset_id), as_json=as_json)


@datasets.command("samples")
def samples(
    context: typer.Context,
    dataset_id: str,
    target: Annotated[Path, typer.Option("--output", "-o", help="The PNG to write.")] = Path("samples.png"),
) -> None:
    """Fetch a picture of some training images, a row a class."""
    content = client_of(context).datasets.samples(dataset_id)
    try:
        target.write_bytes(content)
    except OSError as error:
        raise ConfigurationError(f"{target} cannot be written: {error.strerror}") from error
    out.print(str(target), markup=False)


def _show(resource: Teacher | Dataset, *, as_json: bool) -> None:
    if as_json:
        print_json(resource)
        return
    print_fields(
        {
            "id": resource.id,
            "name": resource.name,
            "state": state(resource.state),
            "contents": summary(resource) or None,
            "imported from": resource.source,
            "size": size(resource.size_bytes),
            "sha256": resource.sha256,
            **_findings(resource.report),
        }
    )
    for problem in resource.problems:
        out.print(f"- {problem}", markup=False)
    for warning in resource.report.warnings if resource.report else ():
        out.print(f"warning: {warning}", markup=False)


def _findings(report: DatasetReport | TeacherReport | None) -> dict[str, object]:
    """What a report says that `summary` does not."""
    if isinstance(report, TeacherReport):
        return {
            "MACs": f"{report.description.num_macs:,}",
            "taps": ", ".join(tap.name for tap in report.description.taps) or None,
            "renamed": "; ".join(report.renames) or None,
        }
    if report is None:
        return {}
    sizes = [f"{size.width}x{size.height} ({size.num_images:,})" for size in report.found_sizes[:3]]
    more = ", ..." if report.num_found_sizes > len(sizes) else ""
    return {
        "format": report.format,
        "found": ", ".join(sizes) + more or None,
        "imbalance": None if report.imbalance is None else f"{report.imbalance:.1f}",
        **{
            f"{name} a class": ", ".join(
                f"{label} {count:,}"
                for label, count in zip(report.classes[:10], split.class_counts, strict=False)
            )
            + (", ..." if len(report.classes) > 10 else "")
            for name, split in report.splits.items()
        },
    }


def _numbers(text: str) -> list[float]:
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no list of numbers like 0.48,0.46,0.41") from None
