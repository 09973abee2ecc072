"""How long a job would take, from what jobs before it took."""

import statistics
from collections.abc import Sequence

from abcore.specs.recipes import Finetune, Recipe, Transfer, num_batches
from abcore.specs.reports import DatasetReport, DistillReport
from abcore.specs.runs import DistillRun
from api.schemas.estimates import PhaseEstimate, TimeEstimate
from api.schemas.jobs import JobPlan
from store.jobs import Ended

BACKWARD = 2
"""Multiply-accumulates of a backward pass over those of the forward pass."""


def phase_estimates(recipe: Recipe, plan: JobPlan, dataset: DatasetReport) -> list[PhaseEstimate]:
    """Count what training asks: steps, images, and multiply-accumulates of forward and backward passes."""
    num_images = dataset.splits["train"].num_images
    phases: list[tuple[str, Transfer | Finetune | None]] = [
        ("transfer", recipe.transfer),
        ("finetune", recipe.finetune),
    ]
    estimates = []
    for name, phase in phases:
        if phase is None:
            continue
        steps = phase.epochs * num_batches(num_images, phase.batch_size)
        images = steps * min(phase.batch_size, num_images)
        macs = plan.student.num_macs * (1 + BACKWARD)
        if plan.teacher is not None and recipe.needs_teacher:
            macs += plan.teacher.num_macs
        estimates.append(PhaseEstimate(phase=name, steps=steps, images=images, macs=images * macs))
    return estimates


def time_estimate(phases: Sequence[PhaseEstimate], ended: Sequence[Ended]) -> TimeEstimate:
    """Scale what earlier jobs took by multiply-accumulates; without earlier jobs there is nothing to go by."""
    rates = {}
    for job in ended:
        run, report = DistillRun.model_validate(job.run), DistillReport.model_validate(job.report)
        of_job = phase_estimates(
            run.recipe, JobPlan.model_validate(job.plan), DatasetReport.model_validate(job.dataset)
        )
        rates[job.id] = sum(phase.macs for phase in of_job) / max(report.training_seconds, 1e-3)
    if not rates:
        return TimeEstimate(
            seconds=None,
            basis="No job of this project has succeeded yet: there is nothing to go by.",
            jobs=[],
        )
    seconds = sum(phase.macs for phase in phases) / statistics.median(rates.values())
    return TimeEstimate(
        seconds=round(seconds, 1),
        basis=f"The median speed of the newest {len(rates)} jobs that succeeded, in multiply-accumulates a second. "
        "Evaluations, uploads and waiting are not in it.",
        jobs=list(rates),
    )
