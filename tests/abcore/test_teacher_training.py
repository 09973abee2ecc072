"""A teacher made here is the student that labels alone would make, in the form of a verified checkpoint."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from abcore.events import EventWriter
from abcore.progress import Stopped
from abcore.setup import load_model
from abcore.specs.recipes import Finetune, Recipe
from abcore.specs.reports import TeacherReport
from abcore.specs.runs import TrainTeacherRun
from abcore.teacher_training import train_teacher

MakeBench = Callable[..., Any]


@pytest.fixture
def alone(recipe: Recipe) -> Recipe:
    finetune = Finetune(epochs=2, batch_size=40, cross_entropy_weight=1, kd_weight=0)
    return Recipe(seed=3, transfer=None, finetune=finetune, augmentation=recipe.augmentation)


def test_it_is_what_labels_alone_make_and_resumes_exactly(make_bench: MakeBench, alone: Recipe) -> None:
    bench = make_bench("student", recipe=alone, teacher=None)
    student = bench.distill().report
    student_weights = load_file(bench.workspace / "outputs" / "student.safetensors")
    workspace: Path = make_bench("teacher", recipe=alone, teacher=None).workspace
    (workspace / "outputs").mkdir(exist_ok=True)
    run = TrainTeacherRun(model=student.student.spec, normalization=bench.run.normalization, recipe=alone)
    events = EventWriter(workspace / "events.jsonl")
    asked = 0

    def stop_once() -> bool:
        nonlocal asked
        asked += 1
        return asked == 4

    with pytest.raises(Stopped):
        train_teacher(run, workspace, events, stop_once)
    result = train_teacher(run, workspace, events, stop_once)
    events.close()
    report = result.report
    assert isinstance(report, TeacherReport)
    assert (report.format, report.accuracy) == ("trained", student.student_accuracy)
    assert [(file.name, file.kind) for file in result.files] == [("teacher.safetensors", "teacher")]
    weights = load_model(run.model, workspace / "outputs" / "teacher.safetensors").state_dict()
    assert weights.keys() == student_weights.keys()
    assert all(torch.equal(weights[name], student_weights[name]) for name in weights)
    assert not (workspace / "outputs" / "student.safetensors").exists()
