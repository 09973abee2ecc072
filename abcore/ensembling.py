"""An ensemble from teachers that are there: one file of their weights."""

from pathlib import Path

from safetensors.torch import load_file, save_file

from abcore.describe import describe_model
from abcore.export import output_file
from abcore.setup import load_model
from abcore.specs.reports import TeacherReport
from abcore.specs.runs import CombineTeachersRun, RunResult


def combine_teachers(run: CombineTeachersRun, workspace: Path) -> RunResult:
    """Read `inputs/member-0.safetensors` and its fellows, write `outputs/teacher.safetensors`."""
    state = {
        f"members.{index}.{name}": tensor
        for index in range(len(run.model.architecture.members))
        for name, tensor in load_file(workspace / "inputs" / f"member-{index}.safetensors").items()
    }
    path = workspace / "outputs" / "teacher.safetensors"
    save_file(state, path, metadata={"model": run.model.model_dump_json()})
    load_model(run.model, path)  # the members are what their rows say, or nothing is published
    report = TeacherReport(description=describe_model(run.model), format="combined", dtype="float32")
    return RunResult(report=report, files=(output_file(path, "teacher", "application/vnd.safetensors"),))
