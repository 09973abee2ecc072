"""What a job would be."""

from typing import Literal

from pydantic import Field

from abcore.events import PhaseName
from api.schemas.base import Answer
from api.schemas.jobs import JobPlan


class PhaseEstimate(Answer):
    """What a phase of training asks."""

    phase: PhaseName
    steps: int = Field(description="Optimizer steps.")
    images: int = Field(description="Images seen, counted each time.")
    macs: int = Field(description="Multiply-accumulates, forward and backward, of student and teacher.")


class TimeEstimate(Answer):
    """How long training would take, and how that is known."""

    seconds: float | None = Field(description="Null where there is nothing to go by.")
    basis: str
    macs_per_second: float | None
    jobs: list[str] = Field(description="The jobs of this project whose speed it was taken from.")


class QueueEstimate(Answer):
    """How long the job would wait before it starts, and how that is known."""

    position: int = Field(description="Jobs that would be taken first, of all projects.")
    running: int
    workers: int = Field(description="Workers that are alive.")
    slots: int = Field(description="Jobs that they can run at once.")
    seconds: float | None = Field(description="Null where it cannot be foretold; `basis` says why.")
    basis: str


class MemoryEstimate(Answer):
    """What training holds at most: a bound that is reasoned, not measured. All in float32, in bytes."""

    total_bytes: int
    student_bytes: int = Field(description="Weights, their gradients, and the state of the optimizer.")
    connector_bytes: int = Field(description="The same of connectors.")
    activation_bytes: int = Field(
        description="What the student keeps of the largest batch for the backward pass."
    )
    tap_bytes: int = Field(description="What the boundary loss keeps at all taps, of the largest batch.")
    teacher_bytes: int = Field(
        description="Its weights, and what a forward pass without gradients holds at once."
    )
    dataset_bytes: int = Field(description="All images, a byte a pixel and channel.")
    basis: str


class Estimate(Answer):
    """What a job would be, had it been created. Nothing was queued."""

    object: Literal["estimate"] = "estimate"
    plan: JobPlan
    phases: list[PhaseEstimate]
    training: TimeEstimate
    queue: QueueEstimate
    memory: MemoryEstimate
    student_bytes: dict[str, int] = Field(
        description="Size of each file of the student that is asked for, about: without headers and graphs."
    )
