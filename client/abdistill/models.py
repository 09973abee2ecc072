"""What the service answers, typed. Fields that this version does not know are ignored: services may be newer.

States are plain strings for the same reason: compare them with the names in this module, expect others.
"""

from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BeforeValidator, Field

from abdistill.errors import ProblemItem
from abdistill.reports import (
    Accuracy,
    Answer,
    DatasetReport,
    DistillationPlan,
    DistillReport,
    Normalization,
    TeacherReport,
)

# "None" and "there are none" are the same to a reader of problems.
Problems = Annotated[tuple[ProblemItem, ...], BeforeValidator(lambda value: () if value is None else value)]

ENDED_STATES = frozenset({"succeeded", "failed", "cancelled"})


class Resource(Answer):
    """What teachers, datasets and jobs have in common."""

    id: str
    object: str
    name: str | None = None
    state: str
    problems: Problems = ()
    created_at: datetime
    updated_at: datetime | None = None


class Teacher(Resource):
    """A trained network that students learn from: `pending`, then `ready` or `invalid`."""

    state_detail: str | None = None
    model: dict[str, Any]
    normalization: Normalization | None = None
    training_job_id: str | None = None
    source: str | None = None
    sha256: str | None = None
    size_bytes: int | None = None
    report: TeacherReport | None = None


class Evaluation(Resource):
    """How good a teacher is on a dataset: `queued`, `running`, then `succeeded`, `failed` or `cancelled`."""

    teacher: str
    dataset: str
    state_reason: str | None = None
    accuracy: dict[str, Accuracy] = Field(default_factory=dict)
    warnings: tuple[ProblemItem, ...] = ()
    ended_at: datetime | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in ENDED_STATES


class Dataset(Resource):
    """Labelled images: `pending`, then `ready` or `invalid`."""

    state_detail: str | None = None
    source: str | None = None
    sha256: str | None = None
    size_bytes: int | None = None
    report: DatasetReport | None = None


class Waiting(Answer):
    """Why a job waits: `paused`, `backoff`, `no_worker`, `busy` or `next`; and what runs meanwhile."""

    code: str
    message: str
    until: datetime | None = None
    jobs_ahead: int
    workers: int
    slots: int
    busy_slots: int


class Job(Resource):
    """One distillation: `queued`, `running`, `paused`, then `succeeded`, `failed` or `cancelled`.

    `queue_position` and `waiting` are told of one job that waits, not in lists.
    """

    state_reason: str | None = None
    kind: str = "distill"
    method: str | None = None
    queue_position: int | None = None
    waiting: Waiting | None = None
    retry_of: str | None = None
    clone_of: str | None = None
    sweep: str | None = None
    overrides: dict[str, Any] | None = None
    stop_requested: str | None = None
    priority: int = 0
    devices: int = 1
    labels: dict[str, str] = Field(default_factory=dict)
    teacher: str | None = None
    dataset: str | None = None
    student: dict[str, Any] = Field(default_factory=dict)
    recipe: dict[str, Any] = Field(default_factory=dict)
    outputs: dict[str, Any] = Field(default_factory=dict)
    plan: DistillationPlan | None = None
    progress: float | None = None
    phase: str | None = None
    epoch: int | None = None
    step: int | None = None
    images_per_second: float | None = None
    eta_seconds: float | None = None
    attempts: int = 0
    crashes: int = 0
    run_seconds: float = 0.0
    max_runtime_seconds: int | None = None
    report: DistillReport | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in ENDED_STATES


class Preset(Answer):
    """A recipe to start a job from: send its `name` as `preset`, or its `recipe` with changes."""

    name: str
    description: str
    recipe: dict[str, Any]


class Event(Answer):
    """One thing that happened to a job; `seq` rises by one from event to event."""

    seq: int
    time: datetime
    level: str
    type: str
    message: str
    data: dict[str, Any] = Field(default_factory=dict)


class Metric(Answer):
    """One figure at one step. `step` counts optimizer steps from the start of the phase."""

    phase: str
    name: str
    step: int
    epoch: int
    value: float
    time: datetime | None = None


class LogPart(Answer):
    """Some whole lines of what a job's processes wrote; `position` is how many bytes of its log came before."""

    seq: int
    position: int
    attempt: int
    time: datetime
    text: str


class Artifact(Answer):
    """A file that a job left behind."""

    name: str
    kind: str
    media_type: str
    size_bytes: int
    sha256: str
    created_at: datetime | None = None


Item = TypeVar("Item", bound=Answer)


class Page(Answer, Generic[Item]):
    """Part of a list; ask again with `cursor=next_cursor` while `has_more`."""

    data: tuple[Item, ...]
    has_more: bool = False
    next_cursor: str | None = None


class Quota(Answer):
    """How much of one thing there is, and may be; `limit` None: any number."""

    used: int
    limit: int | None = None


class Usage(Answer):
    """What a project has of what its operator can limit."""

    project: str
    stored_bytes: Quota
    running_jobs: Quota
    queued_jobs: Quota
