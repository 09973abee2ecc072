"""Answers as text: tables for people, JSON for scripts."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from abdistill.cli.session import out
from abdistill.models import Dataset, Job, Teacher
from abdistill.reports import Answer

STATE_COLOURS = {
    "ready": "green",
    "succeeded": "green",
    "running": "cyan",
    "pending": "yellow",
    "queued": "yellow",
    "paused": "yellow",
    "invalid": "red",
    "failed": "red",
    "cancelled": "red",
}


def print_json(answer: Answer | Sequence[Answer]) -> None:
    """One JSON document, unstyled and unwrapped."""
    if isinstance(answer, Answer):
        text = answer.model_dump_json(indent=2)
    else:
        text = "[" + ",\n".join(item.model_dump_json() for item in answer) + "]"
    out.print(text, markup=False, soft_wrap=True)


def print_list(items: Iterable[Teacher | Dataset | Job], *, more: bool) -> None:
    """One line a thing."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("id", "name", "state", "created", ""):
        table.add_column(heading)
    for item in items:
        table.add_row(
            item.id, escape(item.name or ""), state(item.state), age(item.created_at), escape(summary(item))
        )
    out.print(table)
    if more:
        out.print("[dim]there are more: use --limit[/dim]")


def print_fields(fields: dict[str, object]) -> None:
    """Name and value, a line each; what is None is left out."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    for name, value in fields.items():
        if value is not None:
            table.add_row(name, value if isinstance(value, Text) else escape(str(value)))
    out.print(table)


def state(name: str) -> Text:
    """A state in its colour."""
    return Text(name, STATE_COLOURS.get(name, ""))


def age(moment: datetime) -> str:
    """How long ago, in the largest unit that says something."""
    seconds = int((datetime.now(UTC) - moment).total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit} ago"
    return f"{max(seconds, 0)} s ago"


def size(num_bytes: int | None) -> str | None:
    """Bytes, readable: 1.2 MB."""
    if num_bytes is None:
        return None
    value = float(num_bytes)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def summary(item: Teacher | Dataset | Job) -> str:
    """The rest of a thing's line in a list."""
    if isinstance(item, Job):
        if item.state == "running":
            return f"{item.progress or 0:.0%} {item.phase or ''}"
        return item.state_reason or ""
    if item.problems:
        return item.problems[0].message
    if isinstance(item, Teacher) and item.report:
        return f"{item.report.description.num_parameters:,} parameters"
    if isinstance(item, Dataset) and item.report:
        shape, splits = item.report.image, item.report.splits
        counts = ", ".join(f"{name} {split.num_images:,}" for name, split in splits.items())
        return f"{len(item.report.classes)} classes, {shape.channels}x{shape.height}x{shape.width}, {counts}"
    return item.state_detail or ""
