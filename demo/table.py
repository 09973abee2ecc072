"""The comparison: one table for people, and the same figures as one JSON object."""

from dataclasses import asdict, dataclass
from typing import Any

from abdistill.reports import TapSimilarity
from rich.table import Table


@dataclass(frozen=True)
class Column:
    """One network's figures. Sizes in bytes, accuracy in 0..1, MACs of one image."""

    name: str
    parameters: int
    macs: int
    file_bytes: int
    test_accuracy: float
    boundary_similarity: tuple[TapSimilarity, ...] = ()


def comparison(title: str, teacher: Column, distilled: Column, alone: Column) -> Table:
    """Rows are figures, columns are networks; ratios are against the teacher."""
    columns = (teacher, distilled, alone)
    table = Table(title=title, title_style="bold", caption="boundary similarity: before -> after transfer")
    table.add_column("")
    for column in columns:
        table.add_column(column.name, justify="right")
    table.add_row("parameters", *(_ratio(column.parameters, teacher.parameters) for column in columns))
    table.add_row("MACs an image", *(_ratio(column.macs, teacher.macs) for column in columns))
    table.add_row("file, bytes", *(_ratio(column.file_bytes, teacher.file_bytes) for column in columns))
    table.add_row("test accuracy", *(f"{column.test_accuracy:.2%}" for column in columns))
    for tap in distilled.boundary_similarity:
        table.add_row(
            f"similarity, {tap.student}", "", f"{_percent(tap.before)} -> {_percent(tap.after)}", ""
        )
    return table


def as_figures(**columns: Column) -> dict[str, Any]:
    """All of the table's figures, ready for JSON."""
    return {
        name: asdict(column)
        | {"boundary_similarity": [tap.model_dump() for tap in column.boundary_similarity]}
        for name, column in columns.items()
    }


def _ratio(value: int, reference: int) -> str:
    return f"{value:,}" if value >= reference else f"{value:,}  (1/{reference / value:.1f})"


def _percent(share: float | None) -> str:
    return "?" if share is None else f"{share:.1%}"
