"""A teacher is measured on a dataset: the figures are the network's own, and knowing nothing is warned of."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from abcore.data.dataset import load_dataset
from abcore.progress import Stopped
from abcore.setup import load_model
from abcore.specs.reports import EvaluationReport
from abcore.specs.runs import EvaluateTeacherRun
from abcore.teacher_evaluation import evaluate_teacher


def _measure(bench: Any) -> EvaluationReport:
    run = EvaluateTeacherRun(model=bench.run.teacher, normalization=bench.run.normalization)
    report = evaluate_teacher(run, bench.workspace, lambda: False).report
    assert isinstance(report, EvaluationReport)
    return report


def test_accuracy_is_that_of_the_network_on_the_held_out_split(make_bench: Any) -> None:
    bench = make_bench()
    inputs: Path = bench.workspace / "inputs"
    test = load_dataset(inputs / "dataset.safetensors").splits["test"]
    model = load_model(bench.run.teacher, inputs / "teacher.safetensors").eval()
    mean, std = bench.run.normalization.mean[0], bench.run.normalization.std[0]
    with torch.no_grad():
        predicted = model((test.images.float() / 255 - mean) / std).argmax(1)
    report = _measure(bench)
    assert set(report.accuracy) == {"test"}
    assert report.accuracy["test"].top1 == pytest.approx((predicted == test.labels).double().mean().item())
    assert report.accuracy["test"].top1 > 0.5
    assert report.warnings == ()


def test_a_teacher_whose_classes_are_in_another_order_is_warned_of(make_bench: Any) -> None:
    bench = make_bench()
    path = bench.workspace / "inputs" / "teacher.safetensors"
    state = load_file(path)
    (head,) = [name.removesuffix(".bias") for name in state if state[name].shape == (10,) and "bias" in name][
        -1:
    ]
    for part in ("weight", "bias"):
        state[f"{head}.{part}"] = state[f"{head}.{part}"].roll(1, 0)
    save_file(state, path)
    report = _measure(bench)
    (warning,) = report.warnings
    assert (warning.code, warning.where) == ("teacher.at_chance", "dataset:test")
    assert warning.value == report.accuracy["test"].top1 < 0.3
    assert "another order" in (warning.hint or "")


def test_it_stops_when_asked_to(make_bench: Any) -> None:
    bench = make_bench()
    run = EvaluateTeacherRun(model=bench.run.teacher, normalization=bench.run.normalization)
    with pytest.raises(Stopped):
        evaluate_teacher(run, bench.workspace, lambda: True)
