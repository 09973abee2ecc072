"""Typed JSON-lines records that a run emits; their writer and their reader. Knows no torch.

Every line is one record, appended with a single write, so that a reader sees whole lines or none and a killed
writer leaves at most one line without its end.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO

from pydantic import Field, TypeAdapter

from abcore.specs.base import Spec
from abcore.specs.computations import Computation
from abcore.specs.refusals import Problem

PhaseName = Literal["transfer", "finetune"]


class _Record(Spec):
    time: float = Field(default_factory=time.time, description="UNIX seconds.")


class RunStarted(_Record):
    """The child is up, its inputs are loaded."""

    type: Literal["run.started"] = "run.started"
    device: str
    versions: dict[str, str]
    computation: Computation


class Resumed(_Record):
    """Training goes on from a checkpoint instead of from the beginning."""

    type: Literal["run.resumed"] = "run.resumed"
    checkpoint: str
    phase: PhaseName
    epoch: int
    step: int


class PhaseStarted(_Record):
    """A phase begins (or is entered again after a resume)."""

    type: Literal["phase.started"] = "phase.started"
    phase: PhaseName
    epochs: int
    steps_per_epoch: int


class PhaseFinished(_Record):
    """A phase is done."""

    type: Literal["phase.finished"] = "phase.finished"
    phase: PhaseName
    seconds: float


class Metrics(_Record):
    """Named figures at one step. `step` counts optimizer steps from the start of the phase; `epoch` from 0."""

    type: Literal["metrics"] = "metrics"
    phase: PhaseName
    epoch: int
    step: int
    values: dict[str, float]


class Progress(_Record):
    """How far the whole run is: `fraction` in 0..1 of all steps of all phases."""

    type: Literal["progress"] = "progress"
    phase: PhaseName
    epoch: int
    step: int
    fraction: float
    images_per_second: float
    eta_seconds: float


class CheckpointSaved(_Record):
    """A checkpoint is on disk, whole; `file` is relative to the workspace.

    `step` counts from the start of the phase, `global_step` over all phases: it tells which of two is further.
    """

    type: Literal["checkpoint.saved"] = "checkpoint.saved"
    file: str
    phase: PhaseName
    epoch: int
    step: int
    global_step: int
    size_bytes: int
    sha256: str


class MicroBatch(_Record):
    """Memory ran out: from this step on a batch is computed in parts of at most `images`, their gradients added up.

    The effective batch stays `batch` images.
    """

    type: Literal["run.micro_batch"] = "run.micro_batch"
    phase: PhaseName
    step: int
    images: int
    batch: int
    reason: str


class Note(_Record):
    """Something that a reader of the job should know. `code` is stable."""

    type: Literal["note"] = "note"
    level: Literal["info", "warning"]
    code: str
    message: str
    details: dict[str, Any] = Field(default_factory=dict)


class AnswersWanted(_Record):
    """Files that `shared-answers` of the workspace names, in the order in which the run will need them.

    It is for the worker, which fetches them into the workspace; what came of it, a later note tells.
    """

    type: Literal["answers.wanted"] = "answers.wanted"
    files: tuple[str, ...]


class Interrupted(_Record):
    """The run was asked to stop and has saved where it was."""

    type: Literal["run.interrupted"] = "run.interrupted"


class Failed(_Record):
    """The run cannot go on, whoever runs it: the input is wrong."""

    type: Literal["run.failed"] = "run.failed"
    problems: tuple[Problem, ...]


class Finished(_Record):
    """All outputs are on disk."""

    type: Literal["run.finished"] = "run.finished"
    seconds: float


Happening = (
    RunStarted
    | Resumed
    | PhaseStarted
    | PhaseFinished
    | CheckpointSaved
    | MicroBatch
    | Note
    | Interrupted
    | Failed
    | Finished
)
Record = Annotated[Happening | Metrics | Progress | AnswersWanted, Field(discriminator="type")]
_RECORD: TypeAdapter[Record] = TypeAdapter(Record)


def in_words(one: Happening) -> tuple[Literal["info", "warning", "error"], str]:
    """Return what a record tells as a level and a sentence."""
    match one:
        case RunStarted():
            return "info", f"Running on {one.device}."
        case Resumed():
            return "info", f"Going on from {one.checkpoint}: {one.phase}, epoch {one.epoch}, step {one.step}."
        case PhaseStarted():
            return "info", f"Phase {one.phase}: {one.epochs} epochs of {one.steps_per_epoch} steps."
        case PhaseFinished():
            return "info", f"Phase {one.phase} finished after {one.seconds:.1f} s."
        case CheckpointSaved():
            return "info", f"Checkpoint {one.file} saved in {one.phase}, epoch {one.epoch}, step {one.step}."
        case MicroBatch():
            words = f"Memory ran out at step {one.step} of {one.phase}: batches of {one.batch} images are now computed "
            return "warning", words + f"in parts of at most {one.images}, and their gradients added up."
        case Note():
            return one.level, one.message
        case Interrupted():
            return "info", "The run was asked to stop and has saved where it was."
        case Failed():
            return "error", " ".join(problem.message for problem in one.problems)
        case Finished():
            return "info", f"The run finished after {one.seconds:.1f} s."


class EventWriter:
    """Appends records to a file. A torn last line, left by a killed writer, is cut off first.

    `log` gets the same in words, a line each, but for progress and what is for the worker alone.
    """

    def __init__(self, path: Path, log: TextIO | None = None) -> None:
        if path.exists():
            content = path.read_bytes()
            if not content.endswith(b"\n"):
                with path.open("r+b") as torn:
                    torn.truncate(content.rfind(b"\n") + 1)
        self._file = path.open("ab", buffering=0)
        self._log = log

    def emit(self, record: Record) -> None:
        """Append one record; visible to readers when this returns."""
        self._file.write(record.model_dump_json().encode() + b"\n")
        if self._log is not None and not isinstance(record, Progress | AnswersWanted):
            print(_line(record), file=self._log, flush=True)

    def close(self) -> None:
        """Close the file; the writer cannot be used any more."""
        self._file.close()


def _line(record: Happening | Metrics) -> str:
    if isinstance(record, Metrics):
        figures = ", ".join(f"{name} {value:.5g}" for name, value in record.values.items())
        level, text = "info", f"{record.phase}, epoch {record.epoch}, step {record.step}: {figures}"
    else:
        level, text = in_words(record)
    return f"{datetime.fromtimestamp(record.time, UTC):%Y-%m-%d %H:%M:%S} {level}: {text}"


class EventReader:
    """Reads the records that were appended since the last read."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        self._path = path
        self.offset = offset

    def read(self) -> Iterator[Record]:
        """Yield the whole lines that are new; a line without its end is left for the next call.

        Raises:
            pydantic.ValidationError: a line is not a known record.
        """
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self.offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self.offset += len(line)
                yield _RECORD.validate_json(line)
