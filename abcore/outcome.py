"""What a finished training came to, measured on the held-out splits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from abcore.caching import Choice
from abcore.devices import versions
from abcore.evaluate import Evaluation, agreement, evaluate
from abcore.phases import FinetunePhase, Phase, TransferPhase
from abcore.setup import Setup
from abcore.specs.complete_report import Curve
from abcore.specs.reports import Accuracy, DistillReport, TapSimilarity

MOST_POINTS = 1000
"""Of a curve; of a longer one every second, third ... point is kept, and the last."""


@dataclass(frozen=True)
class Trained:
    """A training that has come to its end.

    Attributes:
        setup: what it worked with; the student is trained.
        phases: those that it went through.
        choice: where the teacher's answers came from.
        findings: what they wanted remembered.
        history: every figure that was told: phase, epoch, step, values by name.
        seconds: how long it took, interrupted attempts included.
        data_wait_seconds: how long of that steps waited for their batches.
    """

    setup: Setup
    phases: Sequence[Phase]
    choice: Choice
    findings: dict[str, Any]
    history: list[dict[str, Any]]
    seconds: float
    data_wait_seconds: float


@dataclass(frozen=True)
class Outcome:
    """The figures of a trained student. `confusion` is by split: (K, K) int64, [true class][predicted class]."""

    report: DistillReport
    confusion: dict[str, Tensor]


def measure_outcome(trained: Trained) -> Outcome:
    """Evaluate student and teacher on all held-out splits, where training has not done so already.

    Raises:
        Stopped: the run was asked to stop.
        Refusal: the student's loss is not finite.
    """
    setup = trained.setup
    student_accuracy: dict[str, Accuracy] = {}
    teacher_accuracy: dict[str, Accuracy] = {}
    agreements: dict[str, float] = {}
    confusion: dict[str, Tensor] = {}
    for split in setup.dataset.held_out:
        of_student = _evaluate_student(trained, split)
        student_accuracy[split] = of_student.accuracy
        labels_N = setup.dataset.splits[split].labels
        confusion[split] = _confusion(
            of_student.predictions.cpu(), labels_N, len(setup.dataset.report.classes)
        )
        if setup.teacher is not None and setup.same_classes:
            of_teacher = setup.evaluate_teacher(split)
            teacher_accuracy[split] = of_teacher.accuracy
            agreements[split] = agreement(of_student.predictions, of_teacher.predictions)
    if setup.teacher is not None:
        setup.teacher.check_unchanged()
    report = DistillReport(
        student=setup.student_description,
        teacher=setup.teacher_description,
        student_accuracy=student_accuracy,
        teacher_accuracy=teacher_accuracy,
        agreement=agreements,
        boundary_similarity=_similarities(trained),
        training_seconds=trained.seconds,
        data_wait_seconds=trained.data_wait_seconds,
        computation=setup.computation,
        versions=versions(),
    )
    return Outcome(report, confusion)


def figures(report: DistillReport) -> dict[str, float]:
    """The figures that travel with the student. No times: the same seed shall give the same file."""
    metrics = {}
    for split, accuracy in report.student_accuracy.items():
        metrics[f"{split}/top1"] = accuracy.top1
        metrics[f"{split}/top5"] = accuracy.top5
        metrics[f"{split}/loss"] = accuracy.loss
    for split, share in report.agreement.items():
        metrics[f"{split}/agreement"] = share
    for tap in report.boundary_similarity:
        if tap.final is not None:
            metrics[f"boundary_similarity/{tap.teacher}"] = tap.final
    return metrics


def curves(history: Sequence[dict[str, Any]]) -> tuple[Curve, ...]:
    """Each figure through each phase, by phase in order of training and name in order of appearance."""
    points: dict[tuple[Any, str], list[tuple[int, float]]] = {}
    for told in history:
        for name, value in told["values"].items():
            points.setdefault((told["phase"], name), []).append((told["step"], value))
    found = []
    for (phase, name), line in points.items():
        stride = -(-len(line) // MOST_POINTS)
        kept = line[-1::-stride][::-1]
        found.append(
            Curve(
                phase=phase,
                name=name,
                steps=tuple(step for step, _ in kept),
                values=tuple(value for _, value in kept),
            )
        )
    return tuple(found)


def _evaluate_student(trained: Trained, split: str) -> Evaluation:
    """Measure the student, unless the last phase has measured these very weights on this split."""
    setup, last = trained.setup, trained.phases[-1]
    if isinstance(last, FinetunePhase) and last.evaluation and split == setup.dataset.evaluation_split:
        return last.evaluation
    return evaluate(setup.student, setup.evaluation_batches(split))


def _confusion(predictions_N: Tensor, labels_N: Tensor, num_classes: int) -> Tensor:
    cells_N = labels_N * num_classes + predictions_N
    return torch.bincount(cells_N, minlength=num_classes**2).view(num_classes, num_classes)


def _similarities(trained: Trained) -> tuple[TapSimilarity, ...]:
    transfer = next((phase for phase in trained.phases if isinstance(phase, TransferPhase)), None)
    if transfer is None:
        return ()
    with transfer.open():
        final = transfer.similarity()
    if not final:
        return ()
    before, after = trained.findings["similarity_before"], trained.findings["similarity_after"]
    return tuple(
        TapSimilarity(student=pair.student.name, teacher=pair.teacher.name, before=b, after=a, final=f)
        for pair, b, a, f in zip(trained.setup.pairs, before, after, final, strict=True)
    )
