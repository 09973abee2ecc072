"""One piece of work for the child process: `run.json` of a workspace, and the exit codes it answers with.

A workspace is a folder:

    run.json            a `Run`
    inputs/             teacher.safetensors, dataset.safetensors (verified), or `upload` (untrusted, as it came)
    checkpoints/        resume state, newest last
    teacher-cache/      what the teacher said of views of images, one file a kind and view; a job may find some there
    shared-answers      names of further files of teacher-cache/ that can be had, a line each: what the child asks for
                        (`abcore.events.AnswersWanted`) is put there; a name goes when its file has come, or cannot come
    outputs/            files to publish; `result.json` (a `RunResult`) comes last: where it is, all is there
    team                where the processes of a run on several devices meet
    headway             an empty file, touched about once a second while training gets further
    events.jsonl        what happened, one `abcore.events` record a line, appended
    log.txt             standard output and error of the child, written by whoever started it
"""

from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from abcore.specs.architectures import Architecture, Ensemble, ModelSpec, Normalization
from abcore.specs.base import Spec
from abcore.specs.outputs import Outputs
from abcore.specs.recipes import Recipe
from abcore.specs.refusals import Refusal
from abcore.specs.reports import DatasetReport, DistillReport, EvaluationReport, OutputFile, TeacherReport

HEADWAY = "headway"
SHARED_ANSWERS = "shared-answers"
TEACHER_CACHE = "teacher-cache"


Devices: Any = Field(
    default=1,
    ge=1,
    le=64,
    description="GPUs (or, without GPUs, processes) that share each batch. The batch sizes are those of all together.",
)


class ExitCode(IntEnum):
    """How a child ended. Any other code is a crash."""

    DONE = 0
    REFUSED = 65  # the input is wrong; a `failed` event says how; trying again cannot help
    OUT_OF_MEMORY = (
        71  # where it could not be answered by smaller parts of a batch; a crash, but the worker knows why
    )
    INTERRUPTED = 75  # asked to stop; a checkpoint was written; run the same workspace again to go on


class DistillRun(Spec):
    """Train `student` on the dataset, with what the teacher knows. `teacher` is null for a student trained alone."""

    task: Literal["distill"] = "distill"
    student: Architecture
    teacher: ModelSpec | None
    normalization: Normalization
    recipe: Recipe
    outputs: Outputs = Outputs()
    devices: int = Devices
    threads: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="Of torch on the CPU; they share out sums, so last bits depend on them. Null: what the worker has.",
    )
    checkpoint_seconds: float = Field(default=30.0, gt=0, description="Longest time between two checkpoints.")


class TrainTeacherRun(Spec):
    """Train a teacher on labels alone, leave `outputs/teacher.safetensors`. The recipe asks no teacher."""

    task: Literal["train_teacher"] = "train_teacher"
    model: ModelSpec
    normalization: Normalization
    recipe: Recipe
    devices: int = Devices
    checkpoint_seconds: float = Field(default=30.0, gt=0, description="Longest time between two checkpoints.")


class EnsembleSpec(ModelSpec):
    """A `ModelSpec` of an ensemble."""

    architecture: Ensemble


class CombineTeachersRun(Spec):
    """Make one teacher of several: `inputs/member-0.safetensors`, ... become `outputs/teacher.safetensors`."""

    task: Literal["combine_teachers"] = "combine_teachers"
    model: EnsembleSpec


class EvaluateTeacherRun(Spec):
    """Measure a teacher on the held-out splits of a dataset of its classes; leave no file but the result."""

    task: Literal["evaluate_teacher"] = "evaluate_teacher"
    model: ModelSpec
    normalization: Normalization


class VerifyTeacherRun(Spec):
    """Read an untrusted checkpoint, hold it against its architecture, leave `outputs/teacher.safetensors`."""

    task: Literal["verify_teacher"] = "verify_teacher"
    model: ModelSpec


class VerifyDatasetRun(Spec):
    """Read an untrusted archive, leave `outputs/dataset.safetensors` (uint8 images, int64 labels, by split)."""

    task: Literal["verify_dataset"] = "verify_dataset"
    filename: str = Field(
        description="Name the upload had; a hint for its format, which is found from its bytes."
    )
    image_size: int | None = Field(
        default=None, ge=4, le=1024, description="Resize and centre-crop to this square."
    )
    holdout_fraction: float = Field(
        default=0.1, gt=0, lt=1, description="Share of train held out where no val or test is."
    )
    max_bytes: int = Field(default=8 * 2**30, gt=0, description="Largest decoded size accepted.")


Run = Annotated[
    DistillRun
    | TrainTeacherRun
    | CombineTeachersRun
    | EvaluateTeacherRun
    | VerifyTeacherRun
    | VerifyDatasetRun,
    Field(discriminator="task"),
]


_RUN: TypeAdapter[Run] = TypeAdapter(Run)


def read_run(path: Path) -> Run:
    """Read `run.json`.

    Raises:
        Refusal: it is no run (`run.invalid`).
    """
    try:
        return _RUN.validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        raise Refusal(
            "run.invalid",
            f"run.json is no run: {first['msg']} ({error.error_count()} problems)",
            where="run.json:" + ".".join(str(part) for part in first["loc"]),
            hint="The API and the worker must be of the same version.",
        ) from error


class RunResult(Spec):
    """`outputs/result.json`."""

    report: DistillReport | TeacherReport | DatasetReport | EvaluationReport
    files: tuple[OutputFile, ...]
