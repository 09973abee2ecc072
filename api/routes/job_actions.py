"""`/v1/jobs/{id}/...`: what its user may do to a job."""

from fastapi import APIRouter, Response
from starlette.concurrency import run_in_threadpool

from api.auth import Submitter
from api.context import ContextDep
from api.documentation import Responses, refusals
from api.overrides import changed
from api.routes.jobs import IdempotencyKey, create_once, created, find, submit
from api.schemas.jobs import Job, JobClone, JobUpdate
from store import job_changes, jobs
from store.errors import NotFound
from store.job_changes import Changes
from store.models import Job as JobRow

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["jobs"])
ASKED: Responses = {
    202: {
        "model": Job,
        "description": "Its worker was asked to; `Location` is the job, which tells when it is done",
    }
}


@router.post("/cancel", operation_id="cancel_job", responses=ASKED | refusals(404, 409))
def cancel(job_id: str, context: ContextDep, caller: Submitter, response: Response) -> Job:
    """Cancel a job: at once while it waits (200), within seconds while it runs (202)."""
    find(context, caller.project_id, job_id)
    return _stopped(response, jobs.request_cancel(context.db, caller.project_id, job_id))


@router.post("/pause", operation_id="pause_job", responses=ASKED | refusals(404, 409))
def pause(job_id: str, context: ContextDep, caller: Submitter, response: Response) -> Job:
    """Pause a job: at once while it waits (200); a running one saves where it is, which takes seconds (202)."""
    find(context, caller.project_id, job_id)
    return _stopped(response, jobs.request_pause(context.db, caller.project_id, job_id))


@router.post("/resume", operation_id="resume_job", responses=refusals(404, 409))
def resume(job_id: str, context: ContextDep, caller: Submitter) -> Job:
    """Queue a paused job again; it goes on from where it was, to the very student it would have been."""
    find(context, caller.project_id, job_id)
    job = jobs.resume(context.db, caller.project_id, job_id)
    context.doorbell.ring()
    return Job.of(job)


@router.post("/retry", status_code=201, operation_id="retry_job", responses=refusals(404, 409, 507))
def retry(job_id: str, context: ContextDep, caller: Submitter, response: Response) -> Job:
    """Run a failed or cancelled distillation again, as a new job with the same recipe, teacher and dataset."""
    find(context, caller.project_id, job_id)
    return created(response, submit(context, job_changes.again(context.db, caller.project_id, job_id)))


@router.post(
    "/clone",
    status_code=201,
    operation_id="clone_job",
    responses={
        200: {"model": Job, "description": "The job of an earlier request with this Idempotency-Key"},
        **refusals(404, 409, 413, 415, 503, 507),
    },
)
async def clone(
    job_id: str,
    body: JobClone,
    context: ContextDep,
    caller: Submitter,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> Job:
    """Queue a job like another, in whatever state that is, with some fields changed; it is checked like any other."""
    like = await run_in_threadpool(find, context, caller.project_id, job_id)
    if like.kind != "distill":
        raise NotFound("distillation", job_id)
    origin = {"clone_of": job_id}
    return await create_once(
        context, caller.project_id, changed(like, body), response, idempotency_key, origin
    )


@router.patch("", operation_id="update_job", responses=refusals(404, 413, 415))
def update(job_id: str, body: JobUpdate, context: ContextDep, caller: Submitter) -> Job:
    """Change a job's name, labels or priority."""
    find(context, caller.project_id, job_id)
    changes = Changes(name=body.name, labels=body.labels, priority=body.priority)
    return Job.of(job_changes.update(context.db, caller.project_id, job_id, changes))


@router.delete("", status_code=204, operation_id="delete_job", responses=refusals(404, 409))
def delete(job_id: str, context: ContextDep, caller: Submitter) -> None:
    """Delete a job that has ended, with its events, figures and files. A teacher that it made stays."""
    find(context, caller.project_id, job_id)
    for key in job_changes.delete_job(context.db, caller.project_id, job_id):
        context.blobs.delete(key)


def _stopped(response: Response, row: JobRow) -> Job:
    if row.state == "running":
        response.status_code = 202
        response.headers["Location"] = f"/v1/jobs/{row.id}"
    return Job.of(row)
