"""An ensemble answers with the mean of its members' probabilities, and is a teacher like any."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from abcore.architectures import build_model
from abcore.describe import describe_model
from abcore.ensembling import combine_teachers
from abcore.specs.architectures import ModelSpec
from abcore.specs.recipes import Recipe, Taps
from abcore.specs.runs import CombineTeachersRun

MakeBench = Callable[..., Any]
WRN = {"arch": "wide_resnet", "depth": 10, "width": 2}
OTHER = {"arch": "resnet_cifar", "depth": 8}
IMAGE = {"channels": 1, "height": 8, "width": 8}


def spec(*members: dict[str, Any]) -> ModelSpec:
    architecture = {"arch": "ensemble", "members": members}
    return ModelSpec.model_validate({"architecture": architecture, "image": IMAGE, "num_classes": 10})


def test_it_answers_with_the_mean_of_probabilities() -> None:
    torch.manual_seed(0)
    model = build_model(spec(WRN, OTHER, WRN)).eval()
    images = torch.randn(5, 1, 8, 8)
    probabilities = [member(images).softmax(dim=1) for member in model.members]
    assert torch.allclose(model(images).softmax(dim=1), sum(probabilities) / 3, atol=1e-6)
    assert not torch.allclose(probabilities[0], probabilities[2], atol=1e-3)


def test_it_is_tapped_where_its_first_member_is() -> None:
    alone = ModelSpec.model_validate({"architecture": WRN, "image": IMAGE, "num_classes": 10})
    found = [tap.model_dump() for tap in describe_model(spec(WRN, OTHER)).taps]
    assert found == [
        {**tap.model_dump(), "name": f"members.0.{tap.name}"} for tap in describe_model(alone).taps
    ]


def test_a_student_learns_the_boundaries_of_all_that_are_named(
    make_bench: MakeBench, recipe: Recipe, inputs: Path
) -> None:
    names = ("block2.layer.0.relu1", "relu")
    every = tuple(f"members.{index}.{name}" for name in names for index in range(2))
    twice = tuple(name for name in names for _ in range(2))
    changed = recipe.model_copy(update={"taps": Taps(student=twice, teacher=every)})
    bench = make_bench("ensemble", recipe=changed, teacher=spec(WRN, WRN))
    weights = load_file(inputs / "teacher.safetensors")
    for index in range(2):
        save_file(weights, bench.workspace / "inputs" / f"member-{index}.safetensors")
    (bench.workspace / "outputs").mkdir(exist_ok=True)
    run = CombineTeachersRun.model_validate({"model": spec(WRN, WRN).model_dump()})
    (file,) = combine_teachers(run, bench.workspace).files
    (bench.workspace / "outputs" / file.name).replace(bench.workspace / "inputs" / "teacher.safetensors")
    report = bench.distill().report
    similarity = {tap.teacher: tap.after for tap in report.boundary_similarity}
    assert tuple(similarity) == every
    # Connectors are drawn one by one, so that even the same network twice is learnt by two of them.
    assert len(set(similarity.values())) == len(every)
