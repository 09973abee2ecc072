"""How good a network is, how alike two networks are: measured in evaluation mode, without touching their state."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from abcore.data.batches import Batch
from abcore.losses import boundary_similarity
from abcore.specs.refusals import Refusal
from abcore.specs.reports import Accuracy
from abcore.views import Views


@dataclass(frozen=True)
class Evaluation:
    """Accuracy on a split and what it was computed from: of each image the class of the largest logit, (N,) int64."""

    accuracy: Accuracy
    predictions: Tensor


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Put modules into evaluation mode without gradients, and every submodule back into its own mode afterwards."""
    modes = [(module, module.training) for root in modules for module in root.modules()]
    for root in modules:
        root.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def evaluate(model: nn.Module, batches: Iterable[Batch]) -> Evaluation:
    """Measure a network in evaluation mode; see `measure`."""
    with evaluating(model):
        return measure(model, batches)


def measure(run: Callable[[Tensor], Tensor], batches: Iterable[Batch]) -> Evaluation:
    """Measure top-1, top-5 (or top-K of fewer classes) and cross-entropy over all batches.

    The device is synchronised once, at the end.

    Args:
        run: images_BCHW -> logits_BK.
        batches: what it looks at.

    Raises:
        Refusal: the loss is not finite (`evaluation.not_finite`).
    """
    predictions, top1, top5, losses = [], [], [], []
    for images_BCHW, labels_B, *_ in batches:
        logits_BK = run(images_BCHW).float()
        best_B5 = logits_BK.topk(min(5, logits_BK.shape[1])).indices
        hits_B5 = best_B5 == labels_B[:, None]
        predictions.append(best_B5[:, 0])
        top1.append(hits_B5[:, 0].sum())
        top5.append(hits_B5.sum())
        losses.append(F.cross_entropy(logits_BK, labels_B, reduction="sum").double())
    predictions_N = torch.cat(predictions)
    num_images = len(predictions_N)
    mean_loss = _total(losses) / num_images
    if not math.isfinite(mean_loss):
        raise Refusal(
            "evaluation.not_finite",
            f"the network's logits are not finite numbers on the {num_images} images of a held-out split",
            hint="A student: lower the learning rate. A teacher: its checkpoint or its normalization is wrong.",
        )
    accuracy = Accuracy(
        top1=_total(top1) / num_images,
        top5=_total(top5) / num_images,
        loss=mean_loss,
        num_images=num_images,
    )
    return Evaluation(accuracy, predictions_N)


def agreement(predictions_N: Tensor, teacher_predictions_N: Tensor) -> float:
    """Share of images on which both networks say the same class, 0..1."""
    return float((predictions_N == teacher_predictions_N).double().mean())


def measure_similarity(
    student_maps: Callable[[Tensor], Iterable[Tensor]],
    teacher_views: Callable[[Batch], Views],
    batches: Iterable[Batch],
) -> tuple[float, ...]:
    """Boundary similarity at each tap pair, shallow to deep, over all batches, 0..1.

    Args:
        student_maps: images_BCHW -> the student's connected pre-activations, shaped like the teacher's.
        teacher_views: batch -> the teacher's view.
        batches: what both look at.
    """
    totals, num_images = None, 0
    for batch in batches:
        teacher_on = teacher_views(batch).boundaries
        shares = torch.stack(
            [
                boundary_similarity(preact_BCHW, on_BCHW)
                for preact_BCHW, on_BCHW in zip(student_maps(batch.images), teacher_on, strict=True)
            ]
        )
        weighted = shares * len(batch.labels)
        totals = weighted if totals is None else totals + weighted
        num_images += len(batch.labels)
    assert totals is not None, "a split without images"
    return tuple((totals / num_images).tolist())


def _total(parts: list[Tensor]) -> float:
    return float(torch.stack(parts).sum())
