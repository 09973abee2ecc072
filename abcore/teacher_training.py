"""A teacher made here: a network trained on labels alone, by the loop that trains students."""

from collections.abc import Callable
from pathlib import Path

from abcore.distillation import distill
from abcore.events import EventWriter
from abcore.export import output_file
from abcore.specs.reports import DistillReport, TeacherReport
from abcore.specs.runs import DistillRun, RunResult, TrainTeacherRun


def train_teacher(
    run: TrainTeacherRun, workspace: Path, events: EventWriter, should_stop: Callable[[], bool]
) -> RunResult:
    """Train the teacher of `run`, or go on where an earlier attempt was stopped; write `outputs/teacher.safetensors`.

    Args, errors: as `distill`.
    """
    trained = distill(as_distillation(run), workspace, events, should_stop).report
    assert isinstance(trained, DistillReport)
    path = workspace / "outputs" / "teacher.safetensors"
    path.with_name("student.safetensors").replace(path)
    report = TeacherReport(
        description=trained.student,
        format="trained",
        dtype="float32",
        accuracy=trained.student_accuracy,
        training_seconds=trained.training_seconds,
    )
    return RunResult(report=report, files=(output_file(path, "teacher", "application/vnd.safetensors"),))


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
