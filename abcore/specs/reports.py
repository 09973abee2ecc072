"""What the core found out, as data: descriptions of networks, reports on uploads, results of runs."""

from typing import Literal

from pydantic import Field

from abcore.specs.architectures import ImageShape, ModelSpec, Normalization
from abcore.specs.base import Spec
from abcore.specs.computations import Computation
from abcore.specs.outputs import OutputFormat
from abcore.specs.refusals import Problem


class TapPoint(Spec):
    """A pre-activation feature map: where it is computed and its shape for one image."""

    name: str = Field(
        description="`path` of the activation module that reads it; `path#k` for that module's call number k, from 0; "
        "`path.relu()` where module `path` calls the activation as a function."
    )
    channels: int
    height: int
    width: int

    @property
    def neurons(self) -> int:
        """Neurons an image: channels × height × width."""
        return self.channels * self.height * self.width


class ModelDescription(Spec):
    """A network without its weights."""

    spec: ModelSpec
    num_parameters: int = Field(description="Trainable parameters.")
    num_macs: int = Field(description="Multiply-accumulates of one forward pass of one image.")
    size_bytes: int = Field(description="Parameters and buffers in float32.")
    activation_bytes: int | None = Field(
        default=None,
        description="What a training step keeps of one image for its backward pass, in float32. Null in descriptions "
        "by earlier versions.",
    )
    largest_map_bytes: int | None = Field(default=None, description="The largest feature map in it.")
    taps: tuple[TapPoint, ...] = Field(description="Tap points found automatically, shallow to deep.")


class TapPair(Spec):
    """A student tap and the teacher tap whose boundaries it learns; the connector is a 1x1 convolution and BN."""

    student: TapPoint
    teacher: TapPoint
    connector_parameters: int


class DistillationPlan(Spec):
    """What a job would do, known before it is queued."""

    student: ModelDescription
    teacher: ModelDescription
    pairs: tuple[TapPair, ...]
    compression: float = Field(description="Teacher parameters over student parameters.")


class SplitReport(Spec):
    """One split of a dataset. `mean` and `std` are of its pixels a channel, in the [0, 1] range."""

    num_images: int
    class_counts: tuple[int, ...] = Field(description="Images of each class, in the order of `classes`.")
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


class FoundSize(Spec):
    """A size that images had as they came, before any scaling."""

    width: int
    height: int
    num_images: int


class ImagePlace(Spec):
    """One image of a verified dataset."""

    split: str
    index: int = Field(description="From 0, in the order of the split.")
    label: int


class Duplicates(Spec):
    """Images that are equal in every pixel, after scaling."""

    within: dict[str, int] = Field(
        description="By split: images that repeat an earlier one of the same split."
    )
    across: dict[str, int] = Field(
        description="By two splits (`train+test`): different images that are in both."
    )
    other_label: int = Field(description="Different images that are there under two labels or more.")
    examples: tuple[tuple[ImagePlace, ...], ...] = Field(
        description="A few groups of equal images: first those under two labels, then those in two splits."
    )


class SampleSheet(Spec):
    """`GET /v1/datasets/{id}/samples`: a PNG of training images, a row for each class that is shown."""

    rows: tuple[int, ...] = Field(description="Class of each row, from the top.")
    columns: int = Field(description="Images of a row at most.")
    tile_width: int = Field(description="Pixels; the first tile begins at 0, 0, and tiles touch.")
    tile_height: int


DatasetFormat = Literal["imagefolder", "npz", "idx", "webdataset", "parquet"]


class DatasetReport(Spec):
    """What verification found in a dataset. `normalization` is that of the training split."""

    format: DatasetFormat
    image: ImageShape
    classes: tuple[str, ...]
    splits: dict[str, SplitReport]
    normalization: Normalization
    found_sizes: tuple[FoundSize, ...] = Field(
        default=(), description="The commonest sizes of the images as they came, at most 10."
    )
    num_found_sizes: int = Field(default=0, description="How many different sizes there were.")
    imbalance: float | None = Field(
        default=None, description="Training images of the largest class over those of the smallest."
    )
    duplicates: Duplicates | None = None
    samples: SampleSheet | None = None
    warnings: tuple[Problem, ...] = ()


class Accuracy(Spec):
    """Of one network on one split. Fractions in 0..1; `loss` is the mean cross-entropy in nats."""

    top1: float
    top5: float
    loss: float
    num_images: int


class TeacherReport(Spec):
    """What verification found in a teacher's checkpoint, or what its training here came to."""

    description: ModelDescription
    format: Literal["safetensors", "torch", "trained", "combined"] = Field(
        description="Of the checkpoint as it came; `trained` and `combined`: it was made here."
    )
    dtype: str
    accuracy: dict[str, Accuracy] = Field(
        default={}, description="By held-out split of the dataset it was trained on; empty for a checkpoint."
    )
    training_seconds: float | None = Field(default=None, description="Null for a checkpoint.")
    renames: tuple[str, ...] = Field(
        default=(), description="Key prefixes and nestings that were undone, in order."
    )
    warnings: tuple[Problem, ...] = ()


class EvaluationReport(Spec):
    """How good a teacher is on a dataset of its classes."""

    accuracy: dict[str, Accuracy] = Field(description="By held-out split.")
    warnings: tuple[Problem, ...] = ()


class TapSimilarity(Spec):
    """Boundary similarity at one tap pair: share of neurons of student and teacher on the same side of zero, 0..1."""

    student: str
    teacher: str
    before: float | None = Field(description="Before the transfer phase (a random student: about 0.5).")
    after: float | None = Field(description="After the transfer phase.")
    final: float | None = Field(
        default=None, description="Of the finished student, through the connectors as training left them."
    )


class OutputFile(Spec):
    """A file that a run leaves in `outputs/`, to be published."""

    name: str = Field(description="File name; also its name as an artifact.")
    kind: Literal["student", "report", "manifest", "card", "teacher", "dataset", "samples", "log"]
    media_type: str
    size_bytes: int
    sha256: str


class Export(Spec):
    """The finished student in one of the formats that were asked for, held against the student itself."""

    format: OutputFormat
    file: str | None = Field(description="Null: it could not be made; `error` says why.")
    error: str | None = None
    size_bytes: int | None = None
    compression: float | None = Field(
        default=None, description="The teacher's size in float32 over the file's; null without a teacher."
    )
    largest_difference: float | None = Field(
        default=None, description="Of any logit from the student's own on the same images, absolute."
    )
    images_compared: int | None = Field(default=None, description="Real ones, of the evaluation split.")
    accuracy: dict[str, Accuracy] = Field(
        default={},
        description="By held-out split, of the file itself; empty where it computes as the student does.",
    )
    facts: dict[str, str] = Field(
        default={}, description="What a reader must know: opset, names of input and output."
    )


class Latency(Spec):
    """How long a network takes for a batch, on the machine that trained the student."""

    network: Literal["student", "teacher"]
    runtime: str = Field(description="What ran it, or which file: `torch`, `student.onnx`.")
    device: str
    threads: int
    batch_size: int
    runs: int = Field(description="After the warm-up.")
    median_seconds: float


class DistillReport(Spec):
    """What came out of a distillation; `report.json` holds it, and more."""

    student: ModelDescription
    teacher: ModelDescription | None = Field(description="Null for a student trained alone.")
    student_accuracy: dict[str, Accuracy] = Field(description="By held-out split.")
    teacher_accuracy: dict[str, Accuracy] = Field(
        description="By held-out split; empty without a teacher of the same classes."
    )
    agreement: dict[str, float] = Field(
        description="By held-out split: share of images on which both say the same class, 0..1; "
        "empty without a teacher of the same classes."
    )
    boundary_similarity: tuple[TapSimilarity, ...] = Field(
        description="Measured on the evaluation split; empty where the recipe compares no taps."
    )
    exports: tuple[Export, ...] = Field(
        default=(), description="The student's files, one a format asked for."
    )
    latency: tuple[Latency, ...] = ()
    training_seconds: float
    data_wait_seconds: float | None = Field(
        default=None,
        description="How long of it steps waited for their images to be augmented and brought together.",
    )
    computation: Computation | None = Field(
        default=None, description="Precision and memory layout; a recipe with these repeats the run anywhere."
    )
    versions: dict[str, str]
