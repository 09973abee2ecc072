"""What the service found out, typed: networks, reports on uploads, what came out of jobs.

Fields that this version does not know are ignored: services may be newer.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from abdistill.errors import ProblemItem


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


class Export(Answer):
    """The student in one of the formats that were asked for, held against the student itself.

    `file` None: it could not be made, and `error` says why. `accuracy` is the file's own, by held-out split; empty
    where it computes as the student does. `facts`: opset, names of input and output.
    """

    format: str
    file: str | None = None
    error: str | None = None
    size_bytes: int | None = None
    compression: float | None = None
    largest_difference: float | None = None
    images_compared: int | None = None
    accuracy: dict[str, Accuracy] = Field(default_factory=dict)
    facts: dict[str, str] = Field(default_factory=dict)


class Latency(Answer):
    """How long a network took for a batch on the machine that trained it; `runtime`: `torch`, or a file."""

    network: str
    runtime: str
    device: str
    threads: int
    batch_size: int
    runs: int
    median_seconds: float


class DistillReport(Answer):
    """What came out of a job. The teacher's figures are missing where a student was trained alone."""

    student: ModelDescription
    teacher: ModelDescription | None = None
    student_accuracy: dict[str, Accuracy] = Field(default_factory=dict)
    teacher_accuracy: dict[str, Accuracy] | None = None
    agreement: dict[str, float] | None = None
    boundary_similarity: tuple[TapSimilarity, ...] = ()
    exports: tuple[Export, ...] = ()
    latency: tuple[Latency, ...] = ()
    training_seconds: float | None = None
    data_wait_seconds: float | None = None
    computation: Computation | None = None
    versions: dict[str, str] = Field(default_factory=dict)
