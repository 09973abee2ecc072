"""Jobs side by side."""

from typing import Any, Literal

from pydantic import Field

from api.schemas.base import Answer
from api.schemas.jobs import JobState

Cost = Literal["parameters", "macs", "bytes"]


class ComparedJob(Answer):
    """One job's student in a comparison; figures are null until it has succeeded."""

    id: str
    name: str | None
    state: JobState
    overrides: dict[str, Any] | None = Field(description="What it has of its own in its sweep, by path.")
    parameters: int | None = None
    macs: int | None = None
    bytes: int | None = Field(
        default=None, description="Of `student.safetensors`; before that is there, as planned."
    )
    files: dict[str, int] = Field(description="Bytes of each file of the student.")
    split: str | None = Field(default=None, description="The held-out split that accuracies are of.")
    top1: float | None = None
    top5: float | None = None
    loss: float | None = None
    teacher_top1: float | None = None
    agreement: float | None = Field(
        default=None, description="Share of images of which teacher and student say the same."
    )
    training_seconds: float | None = None
    pareto: list[Cost] = Field(
        default=[],
        description="The costs for which no other job is at least as accurate and as cheap, and better in one.",
    )


class Difference(Answer):
    """A field of the spec in which jobs differ."""

    field: str = Field(examples=["recipe.transfer.epochs"])
    values: dict[str, Any] = Field(description="By job; null where it has no such field.")


class SimilarityFigures(Answer):
    """Boundary similarity at one tap, 0..1, before and after the transfer phase and of the finished student."""

    before: float | None
    after: float | None
    final: float | None


class TapComparison(Answer):
    """How alike the students are to the teacher at one of its taps."""

    teacher: str = Field(description="The teacher's tap.")
    values: dict[str, SimilarityFigures] = Field(description="By job; those that compare this tap.")


class Curve(Answer):
    """One figure over the epochs of a phase, the jobs aligned: `values[job][i]` is that of `epochs[i]`."""

    phase: str
    name: str
    epochs: list[int]
    values: dict[str, list[float | None]] = Field(
        description="By job: the last value of each epoch; null where it has none."
    )


class Comparison(Answer):
    """Jobs side by side: what they are, how good, how they got there, and in what they differ."""

    object: Literal["comparison"] = "comparison"
    jobs: list[ComparedJob]
    best: str | None = Field(
        description="The job of the highest top-1; the smaller one of two that are alike."
    )
    differences: list[Difference]
    similarity: list[TapComparison] = Field(description="Shallow to deep.")
    curves: list[Curve]
