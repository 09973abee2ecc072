"""Line charts as SVG: no script, no file beside them, colours and fonts from the page that they are on."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

WIDTH, HEIGHT = 460, 230
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 40
MOST_LINES = 8
"""As many colours as the page has."""


class Line(NamedTuple):
    """One figure: `values[i]` after `steps[i]` steps."""

    label: str
    steps: Sequence[int]
    values: Sequence[float]


def line_chart(lines: Sequence[Line], *, y_label: str) -> Markup:
    """Draw up to eight lines over one axis of steps, with a legend below. Values that are not finite are left out."""
    points = [[(x, y) for x, y in zip(*line[1:], strict=True) if math.isfinite(y)] for line in lines]
    drawn = [(line, line_points) for line, line_points in zip(lines, points, strict=True) if line_points]
    if not drawn:
        return Markup("")
    xs = [x for _, line_points in drawn for x, _ in line_points]
    ys = [y for _, line_points in drawn for _, y in line_points]
    x_axis, y_axis = (
        _Axis(min(0, *xs), max(xs), LEFT, WIDTH - RIGHT),
        _Axis(min(ys), max(ys), HEIGHT - BOTTOM, TOP),
    )
    parts = [*_grid(x_axis, y_axis, y_label)]
    for number, (line, line_points) in enumerate(drawn):
        path = " ".join(f"{x_axis.at(x):.1f},{y_axis.at(y):.1f}" for x, y in line_points)
        title = f"<title>{escape(line.label)}</title>"
        parts.append(f'<polyline class="line c{number % MOST_LINES}" points="{path}">{title}</polyline>')
        if len(line_points) == 1:
            x, y = line_points[0]
            dot = f'cx="{x_axis.at(x):.1f}" cy="{y_axis.at(y):.1f}" r="3"'
            parts.append(f'<circle class="dot c{number % MOST_LINES}" {dot}>{title}</circle>')
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(parts)}</svg>'
    return Markup(f"<figure>{svg}<figcaption>{_legend([line for line, _ in drawn])}</figcaption></figure>")  # noqa: S704 - all text in it is escaped here


class _Axis:
    """Maps values to places, from a round one below the least to a round one above the most."""

    def __init__(self, least: float, most: float, start: float, end: float) -> None:
        span = most - least or abs(most) or 1.0
        rough = span / 4
        unit = 10.0 ** math.floor(math.log10(rough))
        self.step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough)
        self.least = math.floor(least / self.step) * self.step
        self.most = max(math.ceil(most / self.step) * self.step, self.least + self.step)
        self._start, self._end = start, end

    def at(self, value: float) -> float:
        return self._start + (value - self.least) / (self.most - self.least) * (self._end - self._start)

    def ticks(self) -> Iterator[float]:
        for number in range(round((self.most - self.least) / self.step) + 1):
            yield self.least + number * self.step


def _grid(x_axis: _Axis, y_axis: _Axis, y_label: str) -> Iterator[str]:
    for value in y_axis.ticks():
        y = y_axis.at(value)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="tick end" x="{LEFT - 6}" y="{y + 4:.1f}">{_number(value)}</text>'
    for value in x_axis.ticks():
        yield f'<text class="tick middle" x="{x_axis.at(value):.1f}" y="{HEIGHT - BOTTOM + 16}">{_number(value)}</text>'
    yield f'<text class="axis middle" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}">steps</text>'
    middle = (TOP + HEIGHT - BOTTOM) / 2
    yield f'<text class="axis middle" transform="translate(12 {middle}) rotate(-90)">{escape(y_label)}</text>'


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _legend(lines: Sequence[Line]) -> str:
    return "".join(
        f'<span class="key c{number % MOST_LINES}">{escape(line.label)}</span>'
        for number, line in enumerate(lines)
    )
