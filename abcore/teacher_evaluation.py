"""How good a teacher is on a dataset that it is said to know: measured before anything is learnt from it."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from abcore.data.batches import Batch, Feed, View
from abcore.data.dataset import Split, load_dataset
from abcore.devices import choose_device
from abcore.evaluate import evaluate
from abcore.progress import Stopped
from abcore.setup import load_model
from abcore.specs.recipes import Augmentation
from abcore.specs.refusals import Problem
from abcore.specs.reports import Accuracy, EvaluationReport
from abcore.specs.runs import EvaluateTeacherRun, RunResult

_DEVIATIONS = 3
"""Above chance by less than so many standard deviations is taken for chance."""


def evaluate_teacher(run: EvaluateTeacherRun, workspace: Path, should_stop: Callable[[], bool]) -> RunResult:
    """Measure the teacher of `inputs/` on each held-out split of the dataset there.

    Raises:
        Stopped: `should_stop` said so.
        Refusal: its logits are not finite.
    """
    dataset = load_dataset(workspace / "inputs" / "dataset.safetensors")
    device = choose_device()
    model = load_model(run.model, workspace / "inputs" / "teacher.safetensors").to(device)
    feed = Feed(
        dataset.splits,
        device=device,
        normalization=run.normalization,
        augmentation=Augmentation(),
        view_seed=0,
        memory_format=torch.contiguous_format,
    )

    def batches(split: str) -> Iterator[Batch]:
        for batch in feed.in_order(View(split)):
            if should_stop():
                raise Stopped
            yield batch

    held_out = [name for name in dataset.splits if name != "train"]
    accuracy = {split: evaluate(model, batches(split)).accuracy for split in held_out}
    warnings = tuple(
        warning
        for split in held_out
        if (warning := _chance_warning(split, dataset.splits[split], accuracy[split])) is not None
    )
    return RunResult(report=EvaluationReport(accuracy=accuracy, warnings=warnings), files=())


def _chance_warning(name: str, split: Split, accuracy: Accuracy) -> Problem | None:
    """A network that always says the commonest class is right on its share of the images: that is no knowledge."""
    chance = float(split.labels.bincount().max()) / len(split)
    deviation = math.sqrt(chance * (1 - chance) / len(split))
    if accuracy.top1 > chance + _DEVIATIONS * deviation:
        return None
    return Problem(
        code="teacher.at_chance",
        message=f"the teacher is right on {accuracy.top1:.1%} of {name!r}; always saying the commonest class is on "
        f"{chance:.1%}",
        where=f"dataset:{name}",
        value=accuracy.top1,
        hint="Its classes are probably in another order than the dataset's (which are sorted by name), or its "
        "normalization is another: announce it with the one that it was trained with.",
    )
