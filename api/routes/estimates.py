"""`/v1/jobs:estimate`: what a job would be, without queueing it."""

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool

from abcore.specs.outputs import FORMATS
from abcore.specs.reports import DatasetReport
from api.auth import Reader
from api.context import Context, ContextDep
from api.documentation import refusals
from api.estimates import phase_estimates, queue_estimate, time_estimate
from api.memory import memory_estimate
from api.schemas.estimates import Estimate
from api.schemas.jobs import JobCreate, JobPlan
from api.submission import prepare_job
from store import datasets
from store.jobs import NewJob
from store.speeds import load_before, measured_speed

router = APIRouter(prefix="/v1/jobs:estimate", tags=["jobs"])


@router.post("", operation_id="estimate_job", responses=refusals(409, 413, 415, 503))
async def estimate(body: JobCreate, context: ContextDep, caller: Reader) -> Estimate:
    """Check a job as its creation would, and say what it would be: network, taps, steps, time, size, queue.

    Nothing is queued, and a key that may only read may ask.
    """
    new = await prepare_job(context, caller.project_id, body)
    return await run_in_threadpool(_estimate, context, new)


def _estimate(context: Context, new: NewJob) -> Estimate:
    dataset = datasets.get(context.db, new.project_id, new.dataset_id)
    report, plan = DatasetReport.model_validate(dataset.report), JobPlan.model_validate(new.plan)
    recipe = new.run.recipe
    phases = phase_estimates(recipe, plan, report)
    speed = measured_speed(context.db, new.project_id)
    load = load_before(context.db, new.priority, context.settings.lease_seconds)
    return Estimate(
        plan=plan,
        phases=phases,
        training=time_estimate(phases, speed),
        queue=queue_estimate(load, speed),
        memory=memory_estimate(recipe, plan, report),
        student_bytes={
            name: int(FORMATS[name].share * plan.student.size_bytes) for name in new.run.outputs.wanted
        },
    )
