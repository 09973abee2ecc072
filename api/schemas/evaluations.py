"""Evaluations of teachers."""

from typing import Literal, Self

from pydantic import ConfigDict, Field

from abcore.specs.refusals import Problem
from abcore.specs.reports import Accuracy, EvaluationReport
from api.schemas.base import Answer, Body, Id, Page, Time
from store.models import Job, JobState


class EvaluationCreate(Body):
    """On which dataset a teacher shall be measured."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"dataset": "dst_01KAQ8Z0V6M2Y6E9N1T4C7R5WB"}]})

    dataset: Id = Field(examples=["dst_01KAQ8Z0V6M2Y6E9N1T4C7R5WB"])


class Evaluation(Answer):
    """How good a teacher is on a dataset's held-out splits."""

    object: Literal["evaluation"] = "evaluation"
    id: str
    teacher: str
    dataset: str
    state: JobState
    state_reason: str | None = Field(description="Why it waits, or why it ended as it did.")
    accuracy: dict[str, Accuracy] = Field(description="By held-out split; empty until it has succeeded.")
    warnings: list[Problem] = Field(
        description="`teacher.at_chance`: it is no better than saying the commonest class."
    )
    problems: list[Problem] | None = Field(description="Why it failed.")
    created_at: Time
    ended_at: Time | None

    @classmethod
    def of(cls, job: Job) -> Self:
        """Show the job that an evaluation is."""
        report = EvaluationReport.model_validate(job.report or {"accuracy": {}})
        return cls(
            id=job.id,
            teacher=job.teacher_id or "",
            dataset=job.dataset_id or "",
            state=job.state,
            state_reason=job.state_reason,
            accuracy=report.accuracy,
            warnings=list(report.warnings),
            problems=None
            if job.problems is None
            else [Problem.model_validate(told) for told in job.problems],
            created_at=job.created_at,  # type: ignore[arg-type]  # its validator turns seconds into a date
            ended_at=job.ended_at,  # type: ignore[arg-type]  # as above
        )


class EvaluationPage(Page[Evaluation]):
    """Part of a list of evaluations."""
