"""`/v1/jobs`: distillations."""

import hashlib
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from api.auth import Reader, Submitter
from api.context import Context, ContextDep
from api.documentation import refusals
from api.downloads import matches
from api.schemas.jobs import KINDS, STORED_KINDS, Job, JobCreate, JobKind, JobPage, JobState
from api.submission import prepare_job
from store import jobs
from store.errors import NotFound
from store.jobs import NewJob, Submitted
from store.models import Job as JobRow

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="The same key with the same body answers with the first one's job, so that a request whose answer "
        "was lost may be sent again.",
    ),
]


@router.post(
    "",
    status_code=201,
    operation_id="create_job",
    responses={
        200: {"model": Job, "description": "The job of an earlier request with this Idempotency-Key"},
        **refusals(409, 413, 415, 503),
    },
)
async def create(
    body: JobCreate,
    context: ContextDep,
    caller: Submitter,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> Job:
    """Queue a distillation. Everything is checked against the very teacher and dataset before it is queued."""
    body_hash = None
    if idempotency_key is not None:
        body_hash = hashlib.sha256(body.model_dump_json().encode()).hexdigest()
        earlier = await run_in_threadpool(
            jobs.submitted_before, context.db, caller.project_id, idempotency_key, body_hash
        )
        if earlier is not None:
            return _created(response, Submitted(earlier, replayed=True))
    new = await prepare_job(context, caller.project_id, body, idempotency_key, body_hash)
    return _created(response, await run_in_threadpool(_submit, context, new))


@router.get("", operation_id="list_jobs")
def list_(
    context: ContextDep,
    caller: Reader,
    state: JobState | None = None,
    kind: JobKind = "distill",
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: str | None = None,
) -> JobPage:
    """List jobs, newest first."""
    page = jobs.list_jobs(
        context.db, caller.project_id, kind=STORED_KINDS[kind], state=state, limit=limit, cursor=cursor
    )
    return JobPage(
        data=[Job.of(row) for row in page.items],
        has_more=page.next_cursor is not None,
        next_cursor=page.next_cursor,
    )


@router.get(
    "/{job_id}",
    operation_id="get_job",
    response_model=Job,
    responses={304: {"description": "Nothing has changed"}, **refusals(404)},
)
def get(job_id: str, request: Request, context: ContextDep, caller: Reader) -> Response:
    """Show a job. Send the answer's ETag back as If-None-Match: 304 while nothing has changed."""
    content = Job.of(find(context, caller.project_id, job_id)).model_dump_json().encode()
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if matches(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type="application/json")


@router.post("/{job_id}/cancel", operation_id="cancel_job", responses=refusals(404, 409))
def cancel(job_id: str, context: ContextDep, caller: Submitter) -> Job:
    """Cancel a job: at once while it waits, within seconds while it runs."""
    find(context, caller.project_id, job_id)
    return Job.of(jobs.request_cancel(context.db, caller.project_id, job_id))


def _submit(context: Context, new: NewJob) -> Submitted:
    submitted = jobs.submit(context.db, new)
    if not submitted.replayed:
        context.doorbell.ring()
    return submitted


def _created(response: Response, submitted: Submitted) -> Job:
    response.status_code = 200 if submitted.replayed else 201
    response.headers["Location"] = f"/v1/jobs/{submitted.job.id}"
    return Job.of(submitted.job)


def find(context: Context, project_id: str, job_id: str) -> JobRow:
    """Return a job that is shown as one.

    Raises:
        NotFound
    """
    row = jobs.get(context.db, project_id, job_id)
    if row.kind not in KINDS:
        raise NotFound("job", job_id)
    return row
