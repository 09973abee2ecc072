"""`/v1/sweeps`: jobs that are queued together, one spec with fields that vary."""

import hashlib

from fastapi import APIRouter, Response
from starlette.concurrency import run_in_threadpool

from api.auth import Reader, Submitter
from api.comparisons import best_of, compare_students
from api.context import Context, ContextDep
from api.documentation import refusals
from api.paging import Cursor, Limit
from api.routes.jobs import IdempotencyKey
from api.schemas.sweeps import Sweep, SweepCreate, SweepPage, SweepWithJobs
from api.sweeps import Prepared, prepare_sweep
from store import artifacts, job_sweeps
from store.job_models import JobSweep
from store.job_sweeps import NewSweep
from store.models import Job as JobRow

router = APIRouter(prefix="/v1/sweeps", tags=["sweeps"])


@router.post(
    "",
    status_code=201,
    operation_id="create_sweep",
    responses={
        200: {"model": Sweep, "description": "The sweep of an earlier request with this Idempotency-Key"},
        **refusals(409, 413, 415, 503, 507),
    },
)
async def create(
    body: SweepCreate,
    context: ContextDep,
    caller: Submitter,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> Sweep:
    """Queue a job for each combination of a grid, or for each of a list of points.

    Every job is checked before any is queued; what cannot work is told by field, and then nothing is queued.
    """
    body_hash = None
    if idempotency_key is not None:
        body_hash = hashlib.sha256(body.model_dump_json().encode()).hexdigest()
        earlier = await run_in_threadpool(
            job_sweeps.created_before, context.db, caller.project_id, idempotency_key, body_hash
        )
        if earlier is not None:
            return await run_in_threadpool(_created, context, response, earlier, replayed=True)
    prepared = await prepare_sweep(context, caller.project_id, body)
    new = NewSweep(
        project_id=caller.project_id,
        spec=body.model_dump(mode="json", include={"base", "grid", "points"})
        | {"view_seed": prepared.view_seed},
        name=body.name,
        idempotency_key=idempotency_key,
        idempotency_hash=body_hash,
    )
    return await run_in_threadpool(_queue, context, response, new, prepared)


@router.get("", operation_id="list_sweeps")
def list_(
    context: ContextDep,
    caller: Reader,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> SweepPage:
    """List sweeps, newest first, each with the states of its jobs."""
    page = job_sweeps.list_(context.db, caller.project_id, limit=limit, cursor=cursor)
    return SweepPage(
        data=[Sweep.of(listed) for listed in page.items],
        has_more=page.next_cursor is not None,
        next_cursor=page.next_cursor,
    )


@router.get("/{sweep_id}", operation_id="get_sweep", responses=refusals(404))
def get(sweep_id: str, context: ContextDep, caller: Reader) -> SweepWithJobs:
    """Show a sweep: its jobs side by side, the best of them, and which are on a Pareto front."""
    listed = job_sweeps.get(context.db, caller.project_id, sweep_id)
    jobs = in_order(job_sweeps.jobs_of(context.db, caller.project_id, sweep_id))
    compared = compare_students(jobs, artifacts.of_jobs(context.db, [job.id for job in jobs]))
    shown = SweepWithJobs.of(listed, jobs=compared, best=best_of(compared))
    assert isinstance(shown, SweepWithJobs)
    return shown


@router.post("/{sweep_id}/cancel", status_code=202, operation_id="cancel_sweep", responses=refusals(404, 409))
def cancel(sweep_id: str, context: ContextDep, caller: Submitter, response: Response) -> Sweep:
    """Cancel all jobs of a sweep: those that wait at once, those that run within seconds."""
    listed = job_sweeps.request_cancel_all(context.db, caller.project_id, sweep_id)
    response.headers["Location"] = f"/v1/sweeps/{sweep_id}"
    return Sweep.of(listed)


@router.delete("/{sweep_id}", status_code=204, operation_id="delete_sweep", responses=refusals(404, 409))
def delete(sweep_id: str, context: ContextDep, caller: Submitter) -> None:
    """Delete a sweep whose jobs have all ended, with these and all that they left."""
    for key in job_sweeps.delete_sweep(context.db, caller.project_id, sweep_id):
        context.blobs.delete(key)


def in_order(jobs: list[JobRow]) -> list[JobRow]:
    """A sweep's jobs by their combinations; one that runs again what failed comes behind that."""
    return sorted(jobs, key=lambda job: (job.spec["sweep_index"], job.created_at, job.id))


def _queue(context: Context, response: Response, new: NewSweep, prepared: Prepared) -> Sweep:
    sweep, replayed = job_sweeps.create(context.db, new, prepared.jobs)
    if not replayed:
        context.doorbell.ring(len(prepared.jobs))
    return _created(context, response, sweep, replayed=replayed)


def _created(context: Context, response: Response, sweep: JobSweep, *, replayed: bool) -> Sweep:
    response.status_code = 200 if replayed else 201
    response.headers["Location"] = f"/v1/sweeps/{sweep.id}"
    return Sweep.of(job_sweeps.get(context.db, sweep.project_id, sweep.id))
