"""`/v1/jobs:estimate`: what a job would be, without queueing it."""

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool

from abcore.specs.reports import DatasetReport
from api.auth import Reader
from api.context import Context, ContextDep
from api.documentation import refusals
from api.estimates import phase_estimates, time_estimate
from api.schemas.estimates import Estimate
from api.schemas.jobs import JobCreate, JobPlan
from api.submission import prepare_job
from store import datasets, jobs, waiting
from store.jobs import NewJob

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
    plan = JobPlan.model_validate(new.plan)
    phases = phase_estimates(new.run.recipe, plan, DatasetReport.model_validate(dataset.report))
    return Estimate(
        plan=plan,
        phases=phases,
        training=time_estimate(phases, jobs.newest_successes(context.db, new.project_id)),
        student_bytes=dict.fromkeys(new.run.outputs.formats, plan.student.size_bytes),
        queued_before=waiting.queued_before(context.db, new.priority),
    )
