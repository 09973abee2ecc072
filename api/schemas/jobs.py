"""Jobs, and what they tell and leave."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic.config import JsonDict

from abcore.events import PhaseName
from abcore.specs.architectures import Architecture
from abcore.specs.outputs import Outputs
from abcore.specs.presets import PresetName, start_from
from abcore.specs.recipes import Recipe
from abcore.specs.refusals import Problem
from abcore.specs.reports import DistillReport, ModelDescription, TapPair
from abcore.specs.runs import Devices
from api.schemas.base import ONE_LINE, Answer, Body, Changes, Id, Name, Page, Time
from store.models import Job as JobRow
from store.models import JobKind as StoredKind
from store.moves import JobEventType
from store.waiting import WaitCode
from store.waiting import Waiting as WhyWaiting

JobKind = Literal["distill", "teacher.train"]
STORED_KINDS: dict[JobKind, StoredKind] = {"distill": "distill", "teacher.train": "train_teacher"}
"""The jobs that are shown, and their kind in the store. Verifications are shown as the state of what they verify."""
KINDS: dict[StoredKind, JobKind] = {stored: shown for shown, stored in STORED_KINDS.items()}
JobState = Literal["queued", "running", "paused", "succeeded", "failed", "cancelled"]
Level = Literal["info", "warning", "error"]
Label = Annotated[str, Field(min_length=1, max_length=63, pattern=ONE_LINE)]


DISTILL_EXAMPLE: JsonDict = {
    "name": "digits, an eighth of the size",
    "teacher": "tch_01KAQ8Z0V6M2Y6E9N1T4C7R5WB",
    "dataset": "dst_01KAQ8Z0V6M2Y6E9N1T4C7R5WB",
    "student": {"arch": "wide_resnet", "depth": 10, "width": 1},
    "recipe": {"transfer": {"epochs": 10}, "finetune": {"epochs": 30, "kd_weight": 1.0, "temperature": 3.0}},
    "labels": {"team": "vision"},
}
ALONE_EXAMPLE: JsonDict = {
    "name": "the same student without a teacher",
    "dataset": "dst_01KAQ8Z0V6M2Y6E9N1T4C7R5WB",
    "student": {"arch": "wide_resnet", "depth": 10, "width": 1},
    "recipe": {"transfer": None, "finetune": {"epochs": 40, "cross_entropy_weight": 1.0, "kd_weight": 0.0}},
}


class JobCreate(Body):
    """A distillation: train `student` on `dataset` with what `teacher` knows."""

    model_config = ConfigDict(json_schema_extra={"examples": [DISTILL_EXAMPLE, ALONE_EXAMPLE]})

    teacher: Id | None = Field(
        default=None,
        examples=["tch_01KAQ8Z0V6M2Y6E9N1T4C7R5WB"],
        description="May be left out only where the recipe asks no teacher.",
    )
    dataset: Id = Field(examples=["dst_01KAQ8Z0V6M2Y6E9N1T4C7R5WB"])
    student: Architecture = Field(examples=[{"arch": "wide_resnet", "depth": 10, "width": 1}])
    preset: PresetName | None = Field(
        default=None,
        examples=["modern"],
        description="What `recipe` starts from, see `GET /v1/recipes`; its fields are laid over the preset's.",
    )
    recipe: Recipe = Field(
        default_factory=Recipe, examples=[{"transfer": {"epochs": 10}, "finetune": {"epochs": 30}}]
    )
    outputs: Outputs = Field(default_factory=Outputs)
    name: Name | None = None
    labels: dict[Label, Label] = Field(default_factory=dict, max_length=32, examples=[{"team": "vision"}])
    priority: int = Field(default=0, ge=-100, le=100, description="Higher goes first.")
    devices: int = Devices
    max_runtime_seconds: int | None = Field(
        default=None,
        ge=1,
        le=31 * 86_400,
        description="How long it may run, over all attempts; waiting and pauses do not count. When the time is over it "
        "saves a checkpoint and ends as failed, with the problem `job.max_runtime`. Null: as long as it takes.",
    )

    @model_validator(mode="before")
    @classmethod
    def _start_from_the_preset(cls, fields: Any) -> Any:
        if not isinstance(fields, dict) or not isinstance(fields.get("preset"), str):
            return fields
        return {**fields, "recipe": start_from(fields["preset"], fields.get("recipe") or {})}


class JobUpdate(Body):
    """What of a job may be changed after it was created; what is left out stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"priority": 10}]})

    name: Name | None = None
    labels: dict[Label, Label] | None = Field(
        default=None, max_length=32, examples=[{"team": "vision"}], description="In place of all labels."
    )
    priority: int | None = Field(
        default=None, ge=-100, le=100, description="Higher goes first; matters while the job waits."
    )


class JobClone(Body):
    """What of a job shall be otherwise in its clone; what is left out is the same.

    Objects are merged field by field. A student with an `arch`, or a method or optimizer of another `name`, takes the
    place of the whole; so does the recipe where a `preset` is given.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"student": {"width": 2}, "recipe": {"finetune": {"epochs": 60}}, "name": "wider"}]
        }
    )

    teacher: Id | None = None
    dataset: Id | None = None
    student: Changes | None = None
    preset: PresetName | None = None
    recipe: Changes | None = None
    outputs: Changes | None = None
    name: Name | None = None
    labels: dict[Label, Label] | None = Field(
        default=None, max_length=32, description="In place of all labels."
    )
    priority: int | None = Field(default=None, ge=-100, le=100)
    devices: int | None = Field(default=None, ge=1, le=64)
    max_runtime_seconds: int | None = Field(default=None, ge=1, le=31 * 86_400)


class JobPlan(Answer):
    """What the job does, known before it was queued. Of a student trained alone only `student`."""

    student: ModelDescription
    teacher: ModelDescription | None = None
    pairs: list[TapPair] = Field(default_factory=list, description="Shallow to deep.")
    compression: float | None = Field(default=None, description="Teacher parameters over student parameters.")


class Waiting(Answer):
    """Why a job waits: the first thing that holds it back."""

    code: WaitCode = Field(
        description="`paused`: by its user. `backoff`: after a crash, until `until`. `quota`: as many of "
        "its project run as may. `no_worker`: none is alive. `no_devices`: none has so many. "
        "`busy`: no slot is free. `next`: a slot is free."
    )
    message: str
    until: Time | None = Field(description="When it ends by itself, where that is known.")
    jobs_ahead: int = Field(description="Jobs that are taken first, of all projects.")
    workers: int = Field(description="Workers that are alive.")
    slots: int = Field(description="Jobs that they can run at once.")
    busy_slots: int = Field(description="Jobs that run now.")


class Job(Answer):
    """A distillation, or the training of a teacher, and how far it is."""

    object: Literal["job"] = "job"
    id: str
    kind: JobKind = Field(description="`teacher.train`: `student` is the teacher's architecture.")
    method: str | None = Field(description="`recipe.method.name`; null for `teacher.train`.")
    name: str | None
    labels: dict[str, str]
    state: JobState
    state_reason: str | None = Field(description="Why it waits, or how it ended.")
    queue_position: int | None = Field(
        default=None,
        description="Jobs that are taken before it, of all projects; null in lists, and unless queued.",
    )
    waiting: Waiting | None = Field(
        default=None, description="Why it waits; null in lists, and unless queued or paused."
    )
    retry_of: str | None = Field(default=None, description="The job that this one runs again.")
    clone_of: str | None = Field(default=None, description="The job that this one was made of, with changes.")
    sweep: str | None = Field(default=None, description="The sweep that it is one of.")
    overrides: dict[str, Any] | None = Field(
        default=None, description="What it has of its own in its sweep, by path."
    )
    stop_requested: Literal["cancel", "pause"] | None
    priority: int
    teacher: str | None
    dataset: str | None
    student: dict[str, Any] = Field(
        description="As asked for; what an `auto` became is in `plan.student.spec`."
    )
    recipe: dict[str, Any]
    outputs: dict[str, Any]
    plan: JobPlan | None
    progress: float = Field(description="Share of all steps that is done, 0..1.")
    phase: PhaseName | None
    epoch: int | None
    step: int | None
    images_per_second: float | None
    eta_seconds: float | None
    attempts: int
    crashes: int
    run_seconds: float = Field(description="How long it has run, over all attempts.")
    devices: int
    max_runtime_seconds: int | None
    problems: list[Problem] | None
    report: DistillReport | None = Field(description="Null for `teacher.train`: the teacher has its report.")
    created_at: Time
    started_at: Time | None
    ended_at: Time | None
    updated_at: Time

    @classmethod
    def of(cls, row: JobRow, waiting: WhyWaiting | None = None) -> "Job":
        """Show a row; what it was asked for is kept as one JSON value there."""
        columns = {name: getattr(row, name) for name in cls.model_fields if hasattr(row, name)}
        columns |= {"kind": KINDS[row.kind], "report": row.report if row.kind == "distill" else None}
        asked = {"teacher": row.teacher_id, "dataset": row.dataset_id}
        asked |= {part: row.spec[part] for part in ("student", "recipe", "outputs")}
        asked |= {origin: row.spec.get(origin) for origin in ("retry_of", "clone_of", "overrides")}
        asked["sweep"] = row.sweep_id
        place: dict[str, Any] = {"waiting": waiting}
        if waiting is not None and row.state == "queued":
            place["queue_position"] = waiting.jobs_ahead
        return cls.model_validate(columns | asked | place)


class Event(Answer):
    """Something that happened to a job. `seq` counts from 1 without a gap."""

    object: Literal["event"] = "event"
    seq: int
    time: Time
    level: Level
    type: JobEventType = Field(description="What each type tells: docs/jobs.md. Others may be added.")
    message: str
    data: dict[str, Any] = Field(description="By type; fields may be added.")


class Metric(Answer):
    """One figure at one step, counted in optimizer steps from the start of its phase."""

    object: Literal["metric"] = "metric"
    phase: PhaseName
    name: str
    epoch: int
    step: int
    value: float
    time: Time


class LogPart(Answer):
    """Some whole lines of what a job's processes wrote."""

    object: Literal["log"] = "log"
    seq: int = Field(description="Counts from 1; where it jumps, the beginning of a long log was forgotten.")
    position: int = Field(description="Bytes (UTF-8) of the job's log before them, over all attempts.")
    attempt: int
    time: Time
    text: str


class Artifact(Answer):
    """A file that a job left; its bytes are at `GET /v1/jobs/{id}/artifacts/{name}`."""

    object: Literal["artifact"] = "artifact"
    id: str
    name: str
    kind: str
    media_type: str
    size_bytes: int
    sha256: str
    created_at: Time


class JobPage(Page[Job]):
    """Part of a list of jobs."""


class EventPage(Page[Event]):
    """Part of a list of events."""


class MetricPage(Page[Metric]):
    """Part of a list of metrics."""


class LogPage(Page[LogPart]):
    """Part of a log."""


class ArtifactPage(Page[Artifact]):
    """Part of a list of artifacts."""
