"""`abdistill predict`: a finished student, tried on a few images."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from abdistill.cli.rendering import print_json
from abdistill.cli.session import JsonOption, client_of, out


def predict(
    context: typer.Context,
    job_id: str,
    images: Annotated[list[Path], typer.Argument(help="Up to 16 image files: PNG, JPEG and the like.")],
    top: Annotated[int, typer.Option(min=1, max=100, help="How many classes of each image.")] = 3,
    as_json: JsonOption = False,
) -> None:
    """Show images to the student of a job that has succeeded; the service computes, and keeps nothing."""
    told = client_of(context).jobs.predict(job_id, images, top=top)
    if as_json:
        print_json(told)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("image", "class", ""):
        table.add_column(heading)
    for path, one in zip(images, told.data, strict=True):
        for place, each in enumerate(one.classes):
            table.add_row("" if place else escape(path.name), escape(each.name), f"{each.probability:.1%}")
    out.print(table)
