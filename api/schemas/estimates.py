"""What a job would be."""

from typing import Literal

from pydantic import Field

from api.schemas.base import Answer
from api.schemas.jobs import JobPlan


class PhaseEstimate(Answer):
    """What a phase of training asks."""

    phase: str
    steps: int = Field(description="Optimizer steps.")
    images: int = Field(description="Images seen, counted each time.")
    macs: int = Field(description="Multiply-accumulates, forward and backward, of student and teacher.")


class TimeEstimate(Answer):
    """How long training would take, and how that is known."""

    seconds: float | None = Field(description="Null where there is nothing to go by.")
    basis: str
    jobs: list[str] = Field(description="The jobs whose speed it was taken from.")


class Estimate(Answer):
    """What a job would be, had it been created. Nothing was queued."""

    object: Literal["estimate"] = "estimate"
    plan: JobPlan
    phases: list[PhaseEstimate]
    training: TimeEstimate
    student_bytes: dict[str, int] = Field(
        description="Size of each output format that was asked for, without headers."
    )
    queued_before: int = Field(description="Jobs that would be taken first, of all projects.")
