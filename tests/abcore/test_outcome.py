"""The figures of a finished student: those of the weights that are published, and none measured twice."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from abcore.data.batches import Feed, View
from abcore.data.dataset import load_dataset
from abcore.evaluate import Evaluation, evaluate, measure
from abcore.setup import load_model
from abcore.specs.architectures import ModelSpec
from abcore.specs.recipes import Recipe
from abcore.specs.reports import Accuracy

MakeBench = Callable[..., Any]


def accuracy_of_published(bench: Any) -> Accuracy:
    """Of the student as a downloader has it, on the test split."""
    spec = ModelSpec(architecture=bench.run.student, image=bench.run.teacher.image, num_classes=10)
    model = load_model(spec, bench.workspace / "outputs" / "student.safetensors")
    splits = load_dataset(bench.workspace / "inputs" / "dataset.safetensors").splits
    feed = Feed(
        splits,
        device=torch.device("cpu"),
        normalization=bench.run.normalization,
        augmentation=bench.run.recipe.augmentation,
        view_seed=0,
    )
    return evaluate(model, feed.in_order(View("test"))).accuracy


def test_the_best_epoch_is_kept(make_bench: MakeBench, recipe: Recipe) -> None:
    # A rate that rises until training falls apart: the last epoch is not the best.
    finetune = {
        "epochs": 6,
        "batch_size": 40,
        "keep": "best",
        "schedule": {"name": "step", "milestones": [0.6], "gamma": 30},
    }
    for keep in ("best", "last"):
        changed = Recipe.model_validate(
            {**recipe.model_dump(), "transfer": None, "finetune": {**finetune, "keep": keep}}
        )
        bench = make_bench(keep, recipe=changed)
        reported = bench.distill().report.student_accuracy["test"]
        curve = [r.values["eval/top1"] for r in bench.events("metrics") if "eval/top1" in r.values]
        assert max(curve) > curve[-1]
        assert reported.top1 == (max(curve) if keep == "best" else curve[-1])
        published = accuracy_of_published(bench)
        assert (reported.top1, reported.top5) == (published.top1, published.top5), (
            "of the weights in the file"
        )
        assert reported.loss == pytest.approx(published.loss, rel=1e-5)


def test_what_training_has_measured_is_not_measured_again(
    make_bench: MakeBench, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The student after each epoch, and the teacher once: the report needs no further look at the split."""
    measured = []

    def count(run: Callable[[Tensor], Tensor], batches: Any) -> Evaluation:
        measured.append(run)
        return measure(run, batches)

    monkeypatch.setattr("abcore.evaluate.measure", count)
    bench = make_bench("measured", recipe=recipe)
    report = bench.distill().report
    assert len(measured) == recipe.finetune.epochs + 1  # type: ignore[union-attr]
    last = [r.values for r in bench.events("metrics") if "eval/top1" in r.values][-1]
    assert last["eval/top1"] == report.student_accuracy["test"].top1
    assert last["eval/agreement"] == report.agreement["test"]
