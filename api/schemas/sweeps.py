"""Sweeps: one job with fields that vary."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic.config import JsonDict

from api.schemas.base import Answer, Body, Changes, Name, Page, Time
from api.schemas.comparisons import ComparedJob
from store.job_sweeps import Listed

MOST_JOBS = 200

GRID_EXAMPLE: JsonDict = {
    "name": "width against seed",
    "base": {
        "teacher": "tch_01KAQ8Z0V6M2Y6E9N1T4C7R5WB",
        "dataset": "dst_01KAQ8Z0V6M2Y6E9N1T4C7R5WB",
        "student": {"arch": "wide_resnet", "depth": 10},
        "recipe": {"transfer": {"epochs": 10}, "finetune": {"epochs": 30}},
    },
    "grid": {"student.width": [1, 2], "recipe.seed": [0, 1, 2]},
}
POINTS_EXAMPLE: JsonDict = {
    "base": {
        "teacher": "tch_01KAQ8Z0V6M2Y6E9N1T4C7R5WB",
        "dataset": "dst_01KAQ8Z0V6M2Y6E9N1T4C7R5WB",
        "student": {"arch": "wide_resnet", "depth": 10, "width": 1},
    },
    "points": [
        {"recipe.method.name": "ab"},
        {"recipe.method.name": "kd", "recipe.finetune.temperature": 4},
    ],
}


class SweepCreate(Body):
    """Jobs that differ in some fields. `grid`: every combination of its values; `points`: just those listed.

    Fields are named by path, `recipe.transfer.epochs` or `/recipe/transfer/epochs`. All jobs are checked before any is
    queued, and all are queued at once.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [GRID_EXAMPLE, POINTS_EXAMPLE]})

    name: Name | None = None
    base: Changes = Field(
        description="As for `POST /v1/jobs`; what varies may be left out.",
        examples=[GRID_EXAMPLE["base"]],
    )
    grid: dict[str, Annotated[list[Any], Field(max_length=MOST_JOBS)]] | None = Field(
        default=None,
        min_length=1,
        max_length=MOST_JOBS,
        examples=[GRID_EXAMPLE["grid"]],
        description=f"Values by path; every combination is a job, {MOST_JOBS} at most.",
    )
    points: list[Changes] | None = Field(
        default=None,
        min_length=1,
        max_length=MOST_JOBS,
        examples=[POINTS_EXAMPLE["points"]],
        description="A job for each: its values by path.",
    )

    @model_validator(mode="after")
    def _grid_or_points(self) -> "SweepCreate":
        if (self.grid is None) == (self.points is None):
            raise ValueError("give either grid or points")
        return self


class Counts(Answer):
    """Jobs by state."""

    queued: int = 0
    running: int = 0
    paused: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0


class Sweep(Answer):
    """Jobs that were queued together."""

    object: Literal["sweep"] = "sweep"
    id: str
    name: str | None
    state: Literal["active", "ended"] = Field(description="`ended`: all its jobs have.")
    num_jobs: int
    counts: Counts
    base: dict[str, Any] = Field(description="As asked for.")
    grid: dict[str, list[Any]] | None
    points: list[dict[str, Any]] | None
    view_seed: int | None = Field(
        description="Of the views that all its jobs share, where the sweep has set it: seeds then differ in weights "
        "and order alone, and the teacher is asked once for all jobs. Null where each job has its own."
    )
    created_at: Time

    @classmethod
    def of(cls, listed: Listed, **more: Any) -> "Sweep":
        """Show a row with the states of its jobs."""
        row, states = listed
        ended = not any(states.get(state) for state in ("queued", "running", "paused"))
        return cls(
            id=row.id,
            name=row.name,
            state="ended" if ended else "active",
            num_jobs=sum(states.values()),
            counts=Counts(**states),
            created_at=row.created_at,  # type: ignore[arg-type]  # pydantic makes a time of it
            **{part: row.spec[part] for part in ("base", "grid", "points", "view_seed")},
            **more,
        )


class SweepWithJobs(Sweep):
    """A sweep with all its jobs side by side; `GET /v1/compare?sweep=` has their curves too."""

    best: str | None = Field(description="The job of the highest top-1 so far.")
    jobs: list[ComparedJob] = Field(description="In the order of their combinations.")


class SweepPage(Page[Sweep]):
    """Part of a list of sweeps."""
