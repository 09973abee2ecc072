"""`report.html`: what came out of a job as one page that needs nothing beside it, and `README.md`, its model card."""

import json
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from abcore.reporting.charts import MOST_LINES, Line, line_chart
from abcore.specs.complete_report import CompleteReport, Curve
from abcore.specs.reports import ModelDescription

MOST_CLASSES = 24
"""Of a confusion matrix that is shown whole; of a larger one the most frequent mistakes are told."""

MOST_MISTAKES = 30
_CHARTS = (
    ("Losses", "loss", "loss"),
    ("On held-out images", "eval/", "share, or nats"),
    ("Boundary similarity", "boundary_similarity/", "share of neurons"),
    ("Learning rate", "learning_rate", "rate"),
)
"""Title, what the names of its figures begin with, and what is on the axis."""
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+!|~-])")


class Chart(NamedTuple):
    """A chart of one phase."""

    title: str
    svg: Markup


class Mistake(NamedTuple):
    """How often images of one class were taken for another."""

    true: str
    predicted: str
    images: int


def report_page(report: CompleteReport) -> str:
    """Return the page of a report. Names of classes are a stranger's: what is printed is escaped."""
    recipe = report.run.recipe.model_dump(mode="json", exclude_none=True)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            student=name_of(report.student),
            teacher=name_of(report.teacher) if report.teacher is not None else None,
            phases=_charts(report.curves),
            mistakes={split: _mistakes(report.classes, matrix) for split, matrix in report.confusion.items()},
            whole=len(report.classes) <= MOST_CLASSES,
            recipe=json.dumps(recipe, indent=2),
        )
    )


def model_card(report: CompleteReport) -> str:
    """Return the model card: Markdown under a YAML head, as model hubs read it."""
    return (
        _environment()
        .get_template("card.md.j2")
        .render(
            report=report,
            student=name_of(report.student),
            teacher=name_of(report.teacher) if report.teacher is not None else None,
            recipe=json.dumps(report.run.recipe.model_dump(mode="json", exclude_none=True), indent=2),
        )
    )


def name_of(model: ModelDescription) -> str:
    """A network in a few words: `wide_resnet depth=10 width=1`."""
    told: dict[str, Any] = model.spec.architecture.model_dump(mode="json", exclude_none=True)
    family = told.pop("arch")
    short = {key: value for key, value in told.items() if isinstance(value, int | float | str)}
    return " ".join([family, *(f"{key}={value}" for key, value in short.items())])


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("abcore.reporting"),
        autoescape=select_autoescape(("html.j2",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": _percent,
        "count": _count,
        "plain": plain,
        "quoted": json.dumps,
        "size": _size,
    }
    return environment


def plain(text: str) -> str:
    """Text as Markdown shows it, whatever it holds, in one line."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.2%}"


def _count(number: float) -> str:
    return f"{number:,.0f}"


def _size(num_bytes: int | None) -> str:
    return "–" if num_bytes is None else f"{num_bytes / 1e6:,.2f} MB"


def _charts(curves: Sequence[Curve]) -> dict[str, list[Chart]]:
    """By phase, in the order of training."""
    found: dict[str, list[Chart]] = {}
    for phase in dict.fromkeys(curve.phase for curve in curves):
        found[phase] = [
            Chart(title, line_chart(lines, y_label=unit))
            for title, prefix, unit in _CHARTS
            if (lines := list(_lines(curves, phase, prefix)))
        ]
    return found


def _lines(curves: Sequence[Curve], phase: str, prefix: str) -> Iterator[Line]:
    fitting = [curve for curve in curves if curve.phase == phase and curve.name.startswith(prefix)]
    for curve in fitting[:MOST_LINES]:
        yield Line(curve.name.removeprefix(prefix).strip("/") or curve.name, curve.steps, curve.values)


def _mistakes(classes: Sequence[str], matrix: Sequence[Sequence[int]]) -> list[Mistake]:
    wrong = [
        Mistake(classes[true], classes[predicted], count)
        for true, row in enumerate(matrix)
        for predicted, count in enumerate(row)
        if true != predicted and count
    ]
    return sorted(wrong, key=lambda mistake: -mistake.images)[:MOST_MISTAKES]
