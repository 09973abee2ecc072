"""What the service answers, typed. Fields that this version does not know are ignored: services may be newer.

States are plain strings for the same reason: compare them with the names in this module, expect others.
"""

from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from abdistill.errors import ProblemItem

# "None" and "there are none" are the same to a reader of problems.
Problems = Annotated[tuple[ProblemItem, ...], BeforeValidator(lambda value: () if value is None else value)]

ENDED_STATES = frozenset({"succeeded", "failed", "cancelled"})


class Answer(BaseModel):
    """The base of all that comes back: immutable, and tolerant of what is new."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())


class ImageShape(Answer):
    """Of one image: channels × height × width, in pixels."""

    channels: int
    height: int
    width: int


class Normalization(Answer):
    """Per-channel `(pixel / 255 - mean) / std`, in units of the [0, 1] pixel range."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class TapPoint(Answer):
    """A pre-activation feature map of a network, for one image."""

    name: str
    channels: int
    height: int
    width: int


class ModelDescription(Answer):
    """A network without its weights."""

    spec: dict[str, Any]
    num_parameters: int
    num_macs: int
    size_bytes: int
    taps: tuple[TapPoint, ...] = ()


class TapPair(Answer):
    """A student tap and the teacher tap whose boundaries it learns."""

    student: TapPoint
    teacher: TapPoint
    connector_parameters: int


class DistillationPlan(Answer):
    """What a job does, known before it is queued. Without a teacher there are no pairs and no compression."""

    student: ModelDescription
    teacher: ModelDescription | None = None
    pairs: tuple[TapPair, ...] = ()
    compression: float | None = None


class SplitReport(Answer):
    """One split of a dataset: images of each class, mean and deviation a channel in the [0, 1] range."""

    num_images: int
    class_counts: tuple[int, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


class FoundSize(Answer):
    """A size that images had as they came."""

    width: int
    height: int
    num_images: int


class ImagePlace(Answer):
    """One image of a dataset: `index` counts from 0 within its split."""

    split: str
    index: int
    label: int


class Duplicates(Answer):
    """Images that are equal in every pixel: by split, by two splits (`train+test`), under two labels; and examples."""

    within: dict[str, int] = Field(default_factory=dict)
    across: dict[str, int] = Field(default_factory=dict)
    other_label: int = 0
    examples: tuple[tuple[ImagePlace, ...], ...] = ()


class SampleSheet(Answer):
    """How the picture of `datasets.download_samples` is laid out: the class of each row, and the size of a tile."""

    rows: tuple[int, ...]
    columns: int
    tile_width: int
    tile_height: int


class DatasetReport(Answer):
    """What the service found in a dataset."""

    format: str
    image: ImageShape
    classes: tuple[str, ...]
    splits: dict[str, SplitReport]
    normalization: Normalization
    found_sizes: tuple[FoundSize, ...] = ()
    num_found_sizes: int = 0
    imbalance: float | None = None
    duplicates: Duplicates | None = None
    samples: SampleSheet | None = None
    warnings: tuple[ProblemItem, ...] = ()


class Accuracy(Answer):
    """Of one network on one split. Fractions in 0..1; `loss` is the mean cross-entropy in nats."""

    top1: float
    top5: float
    loss: float
    num_images: int


class TeacherReport(Answer):
    """What the service found in a teacher's checkpoint."""

    description: ModelDescription
    format: str
    dtype: str | None = None
    renames: tuple[str, ...] = ()
    warnings: tuple[ProblemItem, ...] = ()
    accuracy: dict[str, Accuracy] = Field(default_factory=dict)
    training_seconds: float | None = None


class TapSimilarity(Answer):
    """Boundary similarity at one tap pair, 0..1: before and after the transfer phase, and of the finished student."""

    student: str
    teacher: str
    before: float | None = None
    after: float | None = None
    final: float | None = None


class Computation(Answer):
    """How a run computed: precision of forward passes, memory layout, and why so."""

    precision: str
    memory_format: str
    why: str


class DistillReport(Answer):
    """What came out of a job. The teacher's figures are missing where a student was trained alone."""

    student: ModelDescription
    teacher: ModelDescription | None = None
    student_accuracy: dict[str, Accuracy] = Field(default_factory=dict)
    teacher_accuracy: dict[str, Accuracy] | None = None
    agreement: dict[str, float] | None = None
    boundary_similarity: tuple[TapSimilarity, ...] = ()
    training_seconds: float | None = None
    data_wait_seconds: float | None = None
    computation: Computation | None = None
    versions: dict[str, str] = Field(default_factory=dict)


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
