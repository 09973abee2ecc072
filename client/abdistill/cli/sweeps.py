"""`abdistill sweeps` and `abdistill compare`: students side by side."""

from collections.abc import Sequence
from itertools import islice
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from abdistill.cli import parsing
from abdistill.cli.rendering import age, print_fields, print_json, size, state
from abdistill.cli.session import JsonOption, TimeoutOption, client_of, err, out
from abdistill.comparisons import ComparedJob, Comparison, Sweep

sweeps = typer.Typer(
    no_args_is_help=True, help="Jobs that are queued together: one spec with fields that vary."
)


@sweeps.command()
def submit(
    context: typer.Context,
    base: Annotated[str, typer.Option(help="What all jobs have: JSON, or a JSON file, as for a job.")],
    grid: Annotated[
        list[str] | None,
        typer.Option(
            "--grid", metavar="PATH=V1,V2", help="student.width=1,2; of several every combination is a job."
        ),
    ] = None,
    points: Annotated[
        list[str] | None,
        typer.Option(
            "--point", metavar="JSON", help='One job: {"recipe.seed": 1}; may be given several times.'
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="What to call it.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until all its jobs have ended.")] = False,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Submit a job for every combination of a grid, or for each point; all are checked before any is queued."""
    client = client_of(context)
    sweep = client.sweeps.create(
        *parsing.objects([base]),
        grid=parsing.values(grid) if grid else None,
        points=parsing.objects(points) if points else None,
        name=name,
    )
    if wait:
        err.print(f"submitted {sweep.id}: {sweep.num_jobs} jobs")
        sweep = client.sweeps.wait(sweep.id, timeout_seconds=timeout)
    _show(sweep, as_json=as_json)


@sweeps.command("list")
def list_sweeps(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, help="Show at most this many, newest first.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Sweeps, newest first."""
    found = list(islice(client_of(context).sweeps, limit))
    if as_json:
        print_json(found)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("id", "name", "state", "created", "jobs"):
        table.add_column(heading)
    for one in found:
        table.add_row(one.id, escape(one.name or ""), one.state, age(one.created_at), _counts(one))
    out.print(table)


@sweeps.command()
def show(context: typer.Context, sweep_id: str, as_json: JsonOption = False) -> None:
    """A sweep with its students side by side."""
    _show(client_of(context).sweeps.get(sweep_id), as_json=as_json)


@sweeps.command()
def wait(
    context: typer.Context, sweep_id: str, timeout: TimeoutOption = None, as_json: JsonOption = False
) -> None:
    """Wait until all jobs of a sweep have ended, then show them side by side."""
    _show(client_of(context).sweeps.wait(sweep_id, timeout_seconds=timeout), as_json=as_json)


@sweeps.command()
def cancel(context: typer.Context, sweep_id: str, as_json: JsonOption = False) -> None:
    """Cancel all jobs of a sweep."""
    _show(client_of(context).sweeps.cancel(sweep_id), as_json=as_json)


@sweeps.command()
def delete(context: typer.Context, sweep_id: str) -> None:
    """Delete a sweep whose jobs have ended, with all that they left."""
    client_of(context).sweeps.delete(sweep_id)


def compare(
    context: typer.Context,
    job_ids: Annotated[list[str] | None, typer.Argument(metavar="[JOB]...")] = None,
    sweep: Annotated[str | None, typer.Option(help="All jobs of a sweep (swp_...), instead.")] = None,
    split: Annotated[str | None, typer.Option(help="Held-out split that accuracies are of.")] = None,
    metrics: Annotated[
        list[str] | None, typer.Option("--metric", help="Figures whose curves --json shows.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Put students side by side: accuracy, size, MACs, what is on a Pareto front, and how their specs differ."""
    comparison = client_of(context).compare(job_ids or (), sweep=sweep, split=split, metrics=metrics or ())
    if as_json:
        print_json(comparison)
        return
    _print_students(comparison.jobs, comparison.best)
    _print_differences(comparison)


def _show(sweep: Sweep, *, as_json: bool) -> None:
    if as_json:
        print_json(sweep)
        return
    print_fields({"id": sweep.id, "name": sweep.name, "state": sweep.state, "jobs": _counts(sweep)})
    if sweep.jobs:
        _print_students(sweep.jobs, sweep.best)


def _counts(sweep: Sweep) -> str:
    return ", ".join(f"{count} {name}" for name, count in sweep.counts.items() if count)


def _print_students(students: Sequence[ComparedJob], best: str | None) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("", "job", "name", "state"):
        table.add_column(heading, overflow="fold")  # an id that is cut off cannot be used
    for heading in ("top-1", "teacher", "parameters", "MACs", "size"):
        table.add_column(heading, justify="right")
    table.add_column("on the front of accuracy against")
    for number, one in enumerate(students, 1):
        varied = ", ".join(f"{path}={value}" for path, value in (one.overrides or {}).items())
        table.add_row(
            f"{number}{' best' if one.id == best else ''}",
            one.id,
            escape(varied or one.name or ""),
            state(one.state),
            _share(one.top1),
            _share(one.teacher_top1),
            "" if one.parameters is None else f"{one.parameters:,}",
            "" if one.macs is None else f"{one.macs:,}",
            size(one.bytes),
            ", ".join(one.pareto),
        )
    out.print(table)


def _print_differences(comparison: Comparison) -> None:
    if not comparison.differences:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("they differ in", overflow="fold")
    for number in range(1, len(comparison.jobs) + 1):
        table.add_column(str(number), overflow="fold")
    for difference in comparison.differences:
        values = (difference.values.get(one.id) for one in comparison.jobs)
        shown = ("" if value is None else escape(str(value)) for value in values)
        table.add_row(escape(difference.field), *shown)
    out.print()
    out.print(table)


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"
