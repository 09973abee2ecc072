"""What a job tells, on a terminal: `abdistill logs`, `abdistill jobs events`, `metrics` and `follow`."""

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from abdistill.cli.rendering import print_json
from abdistill.cli.session import JsonOption, client_of, out
from abdistill.cli.watching import LEVEL_COLOURS


def follow(context: typer.Context, job_id: str) -> None:
    """Print all that happens to a job as it happens, a JSON document a line, to its end."""
    for told in client_of(context).jobs.follow(job_id):
        out.print(told.model_dump_json(), markup=False, soft_wrap=True)


def events(
    context: typer.Context,
    job_id: str,
    levels: Annotated[list[str] | None, typer.Option("--level", help="info, warning or error.")] = None,
    types: Annotated[list[str] | None, typer.Option("--type", help="job.crashed, phase.started ...")] = None,
    after: Annotated[int, typer.Option(min=0, help="Those of a larger number only.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Show at most this many.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """What happened to a job, in order; of any of the levels and types that are given."""
    page = client_of(context).jobs.events(
        job_id, after=after, level=levels or (), type=types or (), limit=limit
    )
    if as_json:
        print_json(page.data)
        return
    for one in page.data:
        colour = LEVEL_COLOURS.get(one.level, "dim")
        out.print(
            f"{one.seq:>5} {one.time:%Y-%m-%d %H:%M:%S} [{colour}]{one.type:<20}[/] {escape(one.message)}"
        )
    if page.has_more:
        out.print(f"[dim]there are more: use --after {page.data[-1].seq}[/dim]")


def metrics(
    context: typer.Context,
    job_id: str,
    names: Annotated[list[str] | None, typer.Option("--name", help="eval/top1, loss ...")] = None,
    phase: Annotated[str | None, typer.Option(help="transfer or finetune.")] = None,
    from_step: Annotated[int | None, typer.Option(min=0, help="Of the phase, included.")] = None,
    to_step: Annotated[int | None, typer.Option(min=0, help="Included.")] = None,
    points: Annotated[
        int, typer.Option(min=3, max=10_000, help="At most this many of a curve; ends and peaks are kept.")
    ] = 20,
    as_json: JsonOption = False,
) -> None:
    """A job's figures over its steps, thinned out."""
    page = client_of(context).jobs.metrics(
        job_id, name=names or (), phase=phase, from_step=from_step, to_step=to_step, points=points
    )
    if as_json:
        print_json(page.data)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("phase", "figure", "epoch", "step", "value"):
        table.add_column(heading, justify="left" if heading in ("phase", "figure") else "right")
    for one in page.data:
        table.add_row(one.phase, escape(one.name), str(one.epoch), f"{one.step:,}", f"{one.value:.5g}")
    out.print(table)


def logs(
    context: typer.Context,
    job_id: str,
    follow_it: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends.")] = False,
    tail: Annotated[int | None, typer.Option(min=1, help="Begin with the last so many lines.")] = None,
) -> None:
    """What a job's processes wrote."""
    for line in client_of(context).jobs.logs(job_id, tail=tail, follow=follow_it):
        out.print(line, markup=False, soft_wrap=True)
