"""How long a job would take and wait, from what jobs before it took."""

import heapq
from collections.abc import Sequence

from abcore.events import PhaseName
from abcore.specs.recipes import Finetune, Recipe, Transfer, num_batches
from abcore.specs.reports import DatasetReport
from api.schemas.estimates import PhaseEstimate, QueueEstimate, TimeEstimate
from api.schemas.jobs import JobPlan
from store.speeds import Load, Speed

BACKWARD = 2
"""Multiply-accumulates of a backward pass over those of the forward pass."""


def phase_estimates(recipe: Recipe, plan: JobPlan, dataset: DatasetReport) -> list[PhaseEstimate]:
    """Count what training asks: steps, images, and multiply-accumulates of forward and backward passes."""
    num_images = dataset.splits["train"].num_images
    phases: list[tuple[PhaseName, Transfer | Finetune | None]] = [
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


def work_macs(recipe: Recipe, plan: JobPlan, dataset: DatasetReport) -> float:
    """Count the multiply-accumulates of a whole training."""
    return float(sum(phase.macs for phase in phase_estimates(recipe, plan, dataset)))


def time_estimate(phases: Sequence[PhaseEstimate], speed: Speed | None) -> TimeEstimate:
    """Scale what earlier jobs took by multiply-accumulates; without earlier jobs there is nothing to go by."""
    if speed is None:
        return TimeEstimate(
            seconds=None,
            basis="No job has succeeded or is running yet: there is nothing to go by.",
            macs_per_second=None,
            jobs=[],
        )
    jobs = {
        "project": f"the newest {speed.num_jobs} jobs of this project that succeeded",
        "service": f"the newest {speed.num_jobs} jobs of other projects that succeeded: this one has none",
        "running": f"the {speed.num_jobs} jobs that run now: none has succeeded yet",
    }
    return TimeEstimate(
        seconds=round(sum(phase.macs for phase in phases) / speed.macs_per_second, 1),
        basis=f"The median speed of {jobs[speed.source]}, in multiply-accumulates a second. "
        "Loading, final evaluation and waiting are not in it.",
        macs_per_second=speed.macs_per_second,
        jobs=list(speed.job_ids),
    )


def queue_estimate(load: Load, speed: Speed | None) -> QueueEstimate:
    """Foretell when a slot becomes free: what runs ends, what waits is taken in turn, all at the speed of earlier jobs.

    Jobs that come meanwhile with a higher priority are not foreseen.
    """
    counts = {
        "position": load.jobs_ahead,
        "running": len(load.running_seconds),
        "workers": load.crew.workers,
        "slots": load.crew.slots,
    }
    unknown = _why_unknown(load, speed)
    if unknown is not None:
        return QueueEstimate(**counts, seconds=None, basis=unknown)
    ends = sorted(seconds or 0.0 for seconds in load.running_seconds)
    free = [0.0] * max(0, load.crew.slots - len(ends)) + ends
    heapq.heapify(free)
    for macs in load.macs:
        heapq.heapreplace(free, free[0] + (macs / speed.macs_per_second if macs and speed else 0.0))
    return QueueEstimate(
        **counts,
        seconds=round(free[0], 1),
        basis="What running jobs say that they still take, and the training of those ahead at the speed of `training`, "
        "shared among the slots. Jobs that come later with a higher priority are not foreseen.",
    )


def _why_unknown(load: Load, speed: Speed | None) -> str | None:
    if not load.crew.workers:
        return "No worker is running: nothing is started until one is."
    if load.jobs_ahead > len(load.macs):
        return f"More than {len(load.macs)} jobs are ahead: too many to foretell."
    if len(load.running_seconds) >= load.crew.slots and None in load.running_seconds:
        return "A running job has not said yet how long it takes."
    if speed is None and any(load.macs):
        return "Jobs are ahead, and there is no measured speed yet to tell how long they take."
    return None
