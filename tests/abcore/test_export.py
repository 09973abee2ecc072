"""What a run leaves behind can be used with nothing but the files themselves."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from abcore.architectures import build_model
from abcore.data.batches import Feed, View
from abcore.data.dataset import load_dataset
from abcore.evaluate import evaluate
from abcore.export import to_safetensors
from abcore.specs.architectures import ModelSpec, Normalization
from abcore.specs.complete_report import CompleteReport
from abcore.specs.recipes import Augmentation
from abcore.specs.reports import DistillReport

MakeBench = Callable[..., Any]


def test_the_student_works_from_its_file_alone(make_bench: MakeBench) -> None:
    bench = make_bench()
    report = bench.distill().report
    path = bench.workspace / "outputs" / "student.safetensors"
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    model = build_model(ModelSpec.model_validate_json(metadata["model"]))
    model.load_state_dict(load_file(path))
    normalization = Normalization.model_validate_json(metadata["normalization"])
    feed = Feed(
        load_dataset(bench.workspace / "inputs" / "dataset.safetensors").splits,
        device=torch.device("cpu"),
        normalization=normalization,
        augmentation=Augmentation(),
        view_seed=0,
    )
    accuracy = evaluate(model, feed.in_order(View("test"))).accuracy
    assert accuracy == report.student_accuracy["test"]
    assert json.loads(metadata["classes"]) == list("0123456789")
    assert json.loads(metadata["metrics"])["test/top1"] == accuracy.top1
    assert metadata["format"] == "pt"


def test_the_result_lists_the_files_as_they_are(make_bench: MakeBench) -> None:
    bench = make_bench()
    result = bench.distill()
    outputs = bench.workspace / "outputs"
    assert [(file.name, file.kind) for file in result.files] == [
        ("student.safetensors", "student"),
        ("report.json", "report"),
        ("manifest.json", "manifest"),
        ("report.html", "report"),
        ("README.md", "card"),
    ]
    for file in result.files:
        content = (outputs / file.name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file.size_bytes, file.sha256)
    complete = CompleteReport.model_validate_json((outputs / "report.json").read_bytes())
    assert (
        DistillReport(**{name: getattr(complete, name) for name in DistillReport.model_fields})
        == result.report
    )


def test_the_report_holds_curves_and_confusions(make_bench: MakeBench) -> None:
    bench = make_bench()
    bench.distill()
    complete = CompleteReport.model_validate_json((bench.workspace / "outputs" / "report.json").read_bytes())
    told = [
        (record.phase, name, record.step, value)
        for record in bench.events("metrics")
        for name, value in record.values.items()
    ]
    kept = [
        (curve.phase, curve.name, step, value)
        for curve in complete.curves
        for step, value in zip(curve.steps, curve.values, strict=True)
    ]
    assert sorted(kept) == sorted(told)
    matrix = torch.tensor(complete.confusion["test"])
    assert matrix.sum(1).tolist() == _class_counts(bench)
    top1 = float(matrix.diagonal().sum() / matrix.sum())
    assert top1 == pytest.approx(complete.student_accuracy["test"].top1)


def _class_counts(bench: Any) -> list[int]:
    splits = load_dataset(bench.workspace / "inputs" / "dataset.safetensors").splits
    return splits["test"].labels.bincount(minlength=10).tolist()


def test_the_same_content_gives_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    code = (
        "import sys, torch; from abcore.export import to_safetensors;"
        "state = {'b': torch.arange(3.), 'a': torch.ones(2, 2).long()};"
        "sys.stdout.buffer.write(to_safetensors(state, {name: name for name in 'hgfedcba'}))"
    )
    contents = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(2)
    }
    (content,) = contents
    (tmp_path / "file.safetensors").write_bytes(content)
    loaded = load_file(tmp_path / "file.safetensors")
    assert torch.equal(loaded["b"], torch.arange(3.0))
    assert torch.equal(loaded["a"], torch.ones(2, 2).long())


def test_metadata_of_any_alphabet_survives(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    path.write_bytes(to_safetensors({"w": torch.ones(1)}, {"classes": '["猫", "žába", "\\"", "🐸"]'}))
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["classes"]) == ["猫", "žába", '"', "🐸"]
