"""From rows of runs to tables: mean ± standard deviation over seeds, as CSV and as Markdown."""

import csv
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.paper.experiments import Experiment
from benchmarks.paper.trials import Row

HEADINGS = {"top1": "top-1, %", "similarity": "boundary similarity, %"}


@dataclass(frozen=True)
class Cell:
    """One arm at one x: a figure over its seeds, in percent. `deviation` is that of a sample; 0 for one seed."""

    arm: str
    x: str
    mean: float
    deviation: float
    num_seeds: int

    def __str__(self) -> str:
        return f"{self.mean:.1f} ± {self.deviation:.1f}"


def cells(rows: Sequence[Row], figure: str) -> list[Cell]:
    """Summarise a figure, arms and x in the order in which they were run. Rows without the figure are left out."""
    grouped: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row[figure]:
            grouped.setdefault((row["arm"], row["x"]), []).append(100 * float(row[figure]))
    return [
        Cell(
            arm, x, statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0, len(values)
        )
        for (arm, x), values in grouped.items()
    ]


def write_summary(rows: Sequence[Row], experiment: Experiment, path: Path) -> None:
    """Write one line a figure, arm and x."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["figure", "arm", "x", "mean", "standard_deviation", "num_seeds"])
        for figure in experiment.figures:
            for cell in cells(rows, figure):
                writer.writerow(
                    [figure, cell.arm, cell.x, f"{cell.mean:.3f}", f"{cell.deviation:.3f}", cell.num_seeds]
                )


def markdown(rows: Sequence[Row], experiment: Experiment) -> str:
    """Return the tables of an experiment: arms down and x across, or figures across where there is one x."""
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    xs = list(dict.fromkeys(row["x"] for row in rows))
    summaries = {
        figure: {(cell.arm, cell.x): str(cell) for cell in cells(rows, figure)}
        for figure in experiment.figures
    }
    if len(xs) == 1:
        columns = [(HEADINGS[figure], figure, xs[0]) for figure in experiment.figures]
        return _table("", arms, columns, summaries)
    return "\n\n".join(
        _table(f"{HEADINGS[figure]}, by {experiment.x_label}", arms, [(x, figure, x) for x in xs], summaries)
        for figure in experiment.figures
    )


def _table(
    corner: str,
    arms: Sequence[str],
    columns: Sequence[tuple[str, str, str]],
    summaries: dict[str, dict[tuple[str, str], str]],
) -> str:
    headings = " | ".join(heading for heading, _, _ in columns)
    lines = [f"| {corner} | {headings} |", "|---" * (len(columns) + 1) + "|"]
    for arm in arms:
        values = " | ".join(summaries[figure].get((arm, x), "") for _, figure, x in columns)
        lines.append(f"| {arm} | {values} |")
    return "\n".join(lines)
