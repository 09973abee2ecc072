"""Jobs side by side: what their students cost, how good they are, and in what they differ."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from abcore.specs.reports import DistillReport
from api.schemas.comparisons import (
    ComparedJob,
    Cost,
    Curve,
    Difference,
    SimilarityFigures,
    TapComparison,
)
from api.schemas.jobs import JobPlan
from store.curves import EpochFigure
from store.models import Artifact, Job

STUDENT = "student.safetensors"


def compare_students(
    jobs: Sequence[Job], files: Mapping[str, Sequence[Artifact]], split: str | None = None
) -> list[ComparedJob]:
    """Show jobs side by side, those on a Pareto front marked.

    Args:
        jobs: distillations.
        files: of each job, by its id.
        split: held-out split to compare on. None: each on that on which its training was followed.
    """
    compared = [_compared(job, files.get(job.id, ()), split) for job in jobs]
    fronts: dict[str, list[Cost]] = {one.id: [] for one in compared}
    for cost in get_args(Cost):
        for id_ in pareto_front({one.id: (one.top1, getattr(one, cost)) for one in compared}):
            fronts[id_].append(cost)
    return [one.model_copy(update={"pareto": fronts[one.id]}) for one in compared]


def pareto_front(students: Mapping[str, tuple[float | None, int | None]]) -> list[str]:
    """Return those than which no other is at least as accurate and as cheap, and better in one of both.

    Args:
        students: accuracy and cost by name; one without a figure is on no front.
    """
    known = {
        name: (accuracy, cost)
        for name, (accuracy, cost) in students.items()
        if accuracy is not None and cost is not None
    }
    return [
        name
        for name, (accuracy, cost) in known.items()
        if not any(
            others_accuracy >= accuracy
            and others_cost <= cost
            and (others_accuracy, others_cost) != (accuracy, cost)
            for others_accuracy, others_cost in known.values()
        )
    ]


def best_of(compared: Sequence[ComparedJob]) -> str | None:
    """The job of the highest top-1; the one of fewer parameters of two that are alike."""
    known = [one for one in compared if one.top1 is not None]
    if not known:
        return None
    return max(known, key=lambda one: (one.top1 or 0.0, -(one.parameters or 0))).id


def differences(jobs: Sequence[Job]) -> list[Difference]:
    """The fields of the specs in which jobs differ, by path."""
    flat = {job.id: dict(_leaves(_asked(job))) for job in jobs}
    fields = sorted({field for leaves in flat.values() for field in leaves})
    found = []
    for field in fields:
        values = {id_: leaves.get(field) for id_, leaves in flat.items()}
        first, *others = values.values()
        if any(value != first for value in others):
            found.append(Difference(field=field, values=values))
    return found


def similarity(jobs: Sequence[Job]) -> list[TapComparison]:
    """Boundary similarity at each tap of the teacher that any student was compared with, shallow to deep."""
    taps: dict[str, dict[str, SimilarityFigures]] = {}
    for job in jobs:
        if job.report is not None:
            for tap in DistillReport.model_validate(job.report).boundary_similarity:
                figures = SimilarityFigures(before=tap.before, after=tap.after, final=tap.final)
                taps.setdefault(tap.teacher, {})[job.id] = figures
    return [TapComparison(teacher=teacher, values=values) for teacher, values in taps.items()]


def curves(figures: Sequence[EpochFigure], most_epochs: int) -> list[Curve]:
    """Align figures by epoch; of more than `most_epochs` that many are shown, evenly spread, both ends among them."""
    by_curve: dict[tuple[str, str], dict[str, dict[int, float]]] = {}
    for figure in figures:
        of_jobs = by_curve.setdefault((figure.phase, figure.name), {})
        of_jobs.setdefault(figure.job_id, {})[figure.epoch] = figure.value
    found = []
    for (phase, name), of_jobs in by_curve.items():
        epochs = _spread(sorted({epoch for values in of_jobs.values() for epoch in values}), most_epochs)
        values = {id_: [of_job.get(epoch) for epoch in epochs] for id_, of_job in of_jobs.items()}
        found.append(Curve(phase=phase, name=name, epochs=epochs, values=values))
    return found


def _compared(job: Job, files: Sequence[Artifact], split: str | None) -> ComparedJob:
    report = None if job.report is None else DistillReport.model_validate(job.report)
    sizes = {file.name: file.size_bytes for file in files if file.name.startswith("student.")}
    figures: dict[str, Any] = {}
    student = report.student if report else JobPlan.model_validate(job.plan).student if job.plan else None
    if student is not None:
        figures["parameters"], figures["macs"] = student.num_parameters, student.num_macs
        figures["bytes"] = sizes.get(STUDENT, student.size_bytes)
    if report is not None:
        figures["training_seconds"] = report.training_seconds
        figures |= _accuracies(report, split)
    return ComparedJob(
        id=job.id, name=job.name, state=job.state, overrides=job.spec.get("overrides"), files=sizes, **figures
    )


def _accuracies(report: DistillReport, split: str | None) -> dict[str, Any]:
    # Where nothing is asked for, the split on which training was followed.
    split = split or ("val" if "val" in report.student_accuracy else "test")
    if split not in report.student_accuracy:
        return {}
    student, teacher = report.student_accuracy[split], report.teacher_accuracy.get(split)
    return {
        "split": split,
        "top1": student.top1,
        "top5": student.top5,
        "loss": student.loss,
        "teacher_top1": None if teacher is None else teacher.top1,
        "agreement": report.agreement.get(split),
    }


def _asked(job: Job) -> dict[str, Any]:
    parts = {part: job.spec[part] for part in ("student", "recipe", "outputs")}
    return {"teacher": job.teacher_id, "dataset": job.dataset_id, **parts}


def _leaves(value: Any, path: str = "") -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        return [(path, value)]
    return [
        leaf
        for name, below in value.items()
        for leaf in _leaves(below, f"{path}.{name}" if path else str(name))
    ]


def _spread(epochs: list[int], most: int) -> list[int]:
    if len(epochs) <= most:
        return epochs
    last = len(epochs) - 1
    return [epochs[round(index * last / (most - 1))] for index in range(most)]
