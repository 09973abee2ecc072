"""Plots that read like the paper's: arms as lines or as bars; error bars are one standard deviation over seeds."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.paper.experiments import Experiment
from benchmarks.paper.tables import HEADINGS, cells
from benchmarks.paper.trials import Row

COLOURS = {
    "ab": "#c0392b",
    "ab + DTL": "#7d1f15",
    "cross-entropy": "#7f8c8d",
    "kd": "#2471a3",
    "fitnets": "#239b56",
    "at": "#b9770e",
    "jacobian": "#8e44ad",
    "fsp": "#117a65",
    "ofd": "#34495e",
    "l2": "#2471a3",
    "l1": "#239b56",
    "l0.5": "#b9770e",
}
"""One colour an arm, the same in every plot."""


def plot(rows: Sequence[Row], experiment: Experiment, path: Path) -> None:
    """Draw each figure of an experiment beside the others, into an SVG file whose bytes depend on the rows alone."""
    width = 6.4 * len(experiment.figures)
    canvas = Figure(figsize=(width, 4.0), layout="constrained")
    row_of_axes = canvas.subplots(1, len(experiment.figures), squeeze=False)[0]
    for axes, name in zip(row_of_axes, experiment.figures, strict=True):
        (_draw_lines if experiment.curves else _draw_bars)(axes, rows, name)
        axes.set_ylabel(HEADINGS[name])
        axes.set_xlabel(experiment.x_label)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.3)
    canvas.suptitle(experiment.title)
    with mpl.rc_context({"svg.hashsalt": "abdistill"}):
        canvas.savefig(path, metadata={"Date": None})


def _draw_lines(axes: Axes, rows: Sequence[Row], figure: str) -> None:
    xs = list(dict.fromkeys(row["x"] for row in rows))
    summary = cells(rows, figure)
    for arm in dict.fromkeys(cell.arm for cell in summary):
        of_arm = [cell for cell in summary if cell.arm == arm]
        axes.errorbar(
            [xs.index(cell.x) for cell in of_arm],
            [cell.mean for cell in of_arm],
            yerr=[cell.deviation for cell in of_arm],
            label=arm,
            color=COLOURS.get(arm),
            marker="o",
            capsize=3,
            linewidth=2.2 if arm == "ab" else 1.4,
        )
    axes.set_xticks(range(len(xs)), xs)
    axes.legend(frameon=False)


def _draw_bars(axes: Axes, rows: Sequence[Row], figure: str) -> None:
    summary = cells(rows, figure)
    xs = list(dict.fromkeys(cell.x for cell in summary))
    arms = list(dict.fromkeys(cell.arm for cell in summary))
    thickness = 0.8 / len(arms)
    for number, arm in enumerate(arms):
        of_arm = [cell for cell in summary if cell.arm == arm]
        axes.bar(
            [xs.index(cell.x) + (number - (len(arms) - 1) / 2) * thickness for cell in of_arm],
            [cell.mean for cell in of_arm],
            thickness * 0.9,
            yerr=[cell.deviation for cell in of_arm],
            label=arm,
            color=COLOURS.get(arm),
            capsize=3,
        )
    if len(xs) > 1:
        axes.set_xticks(range(len(xs)), xs)
        axes.legend(frameon=False)
    else:
        axes.set_xticks([(number - (len(arms) - 1) / 2) * thickness for number in range(len(arms))], arms)
    lowest = min(cell.mean - 2 * cell.deviation for cell in summary)
    axes.set_ylim(bottom=max(0.0, lowest - 5))
