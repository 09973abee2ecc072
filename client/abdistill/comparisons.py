"""Sweeps and comparisons, as the service answers them."""

from datetime import datetime
from typing import Any

from pydantic import Field

from abdistill.reports import Answer


class ComparedJob(Answer):
    """One student beside others; figures are None until its job has succeeded.

    `pareto`: the costs (`parameters`, `macs`, `bytes`) for which no other is at least as accurate and as cheap.
    """

    id: str
    name: str | None = None
    state: str
    overrides: dict[str, Any] | None = None
    parameters: int | None = None
    macs: int | None = None
    bytes: int | None = None
    files: dict[str, int] = Field(default_factory=dict)
    split: str | None = None
    top1: float | None = None
    top5: float | None = None
    loss: float | None = None
    teacher_top1: float | None = None
    agreement: float | None = None
    training_seconds: float | None = None
    pareto: tuple[str, ...] = ()


class Difference(Answer):
    """A field of the specs, and its value by job where they differ."""

    field: str
    values: dict[str, Any]


class SimilarityFigures(Answer):
    """Boundary similarity at one tap, 0..1: before and after the transfer phase, and of the finished student."""

    before: float | None = None
    after: float | None = None
    final: float | None = None


class TapComparison(Answer):
    """How alike the students are to the teacher at one of its taps, by job."""

    teacher: str
    values: dict[str, SimilarityFigures]


class Curve(Answer):
    """One figure over the epochs of a phase: `values[job][i]` is that of `epochs[i]`, None where it has none."""

    phase: str
    name: str
    epochs: tuple[int, ...]
    values: dict[str, tuple[float | None, ...]]


class Comparison(Answer):
    """Jobs side by side: what they are, how good, how they got there, and in what they differ."""

    jobs: tuple[ComparedJob, ...]
    best: str | None = None
    differences: tuple[Difference, ...] = ()
    similarity: tuple[TapComparison, ...] = ()
    curves: tuple[Curve, ...] = ()


class Sweep(Answer):
    """Jobs that were queued together: `active` until all have `ended`. `counts` are its jobs by state.

    `jobs` and `best` are told of one sweep, not in lists.
    """

    id: str
    name: str | None = None
    state: str
    num_jobs: int
    counts: dict[str, int]
    base: dict[str, Any]
    grid: dict[str, tuple[Any, ...]] | None = None
    points: tuple[dict[str, Any], ...] | None = None
    view_seed: int | None = None
    created_at: datetime
    best: str | None = None
    jobs: tuple[ComparedJob, ...] = ()
