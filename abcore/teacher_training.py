"""A teacher made here: a network trained on labels alone, by the loop that trains students."""

from collections.abc import Callable
from pathlib import Path

from abcore.atomic import write_atomically
from abcore.distillation import train
from abcore.events import EventWriter
from abcore.export import output_file
from abcore.export.weights import weights
from abcore.outcome import measure_outcome
from abcore.publishing import finished_student
from abcore.specs.reports import TeacherReport
from abcore.specs.runs import DistillRun, RunResult, TrainTeacherRun
from abcore.team import lead


def train_teacher(
    run: TrainTeacherRun, workspace: Path, events: EventWriter, should_stop: Callable[[], bool]
) -> RunResult:
    """Train the teacher of `run`, or go on where an earlier attempt was stopped; write `outputs/teacher.safetensors`.

    Args, errors: as `abcore.distillation.distill`.
    """
    with lead(run.devices, workspace) as team:
        trained = train(as_distillation(run), workspace, events, should_stop, team)
    report = measure_outcome(trained).report
    path = workspace / "outputs" / "teacher.safetensors"
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, weights(finished_student(trained, report)))
    found = TeacherReport(
        description=report.student,
        format="trained",
        dtype="float32",
        accuracy=report.student_accuracy,
        training_seconds=report.training_seconds,
    )
    return RunResult(report=found, files=(output_file(path, "teacher", "application/vnd.safetensors"),))


def as_distillation(run: TrainTeacherRun) -> DistillRun:
    """Return the distillation without a teacher that this training is."""
    return DistillRun(
        student=run.model.architecture,
        teacher=None,
        normalization=run.normalization,
        recipe=run.recipe,
        devices=run.devices,
        checkpoint_seconds=run.checkpoint_seconds,
    )
