"""`/v1/jobs`: distillations."""

import asyncio
import hashlib
import json
import time
from dataclasses import replace
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import StringConstraints
from starlette.concurrency import run_in_threadpool

from abcore.specs.methods import MethodName
from api.auth import Reader, Submitter
from api.context import Context, ContextDep
from api.documentation import refusals
from api.etags import matches
from api.paging import Cursor, Limit
from api.polls import Answer, asked_of
from api.schemas.base import UNSEEN, Moment
from api.schemas.jobs import KINDS, STORED_KINDS, Job, JobCreate, JobKind, JobPage, JobState
from api.submission import prepare_job
from store import jobs
from store.errors import NotFound
from store.job_lists import JobFilter, JobOrder, list_jobs
from store.jobs import NewJob, Submitted
from store.keys import require_good
from store.models import ENDED
from store.models import Job as JobRow
from store.waiting import why_waiting

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

POLL_SECONDS = 0.5
LabelQuery = Annotated[str, StringConstraints(pattern=rf"^[^:{UNSEEN}]{{1,63}}:[^{UNSEEN}]{{1,63}}$")]
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
        **refusals(409, 413, 415, 503, 507),
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
    return await create_once(context, caller.project_id, body, response, idempotency_key, {})


@router.get("", operation_id="list_jobs")
def list_(
    context: ContextDep,
    caller: Reader,
    kind: JobKind = "distill",
    state: Annotated[list[JobState], Query(max_length=6, description="Any of these.")] = [],  # noqa: B006  # FastAPI copies it
    method: Annotated[list[MethodName], Query(max_length=8, description="Any of these.")] = [],  # noqa: B006  # as above
    sweep: Annotated[str | None, Query(max_length=40)] = None,
    teacher: Annotated[str | None, Query(max_length=40)] = None,
    dataset: Annotated[str | None, Query(max_length=40)] = None,
    label: Annotated[
        list[LabelQuery],
        Query(max_length=8, examples=[["team:vision"]], description="`key:value`; all of these."),
    ] = [],  # noqa: B006  # as above
    created_from: Annotated[Moment | None, Query(description="At this moment or later.")] = None,
    created_before: Moment | None = None,
    order: Annotated[
        JobOrder,
        Query(
            description="Which come first. `priority`: the highest, and the newest of one priority. `ended`: those "
            "that ended last; jobs that have not ended are not in it."
        ),
    ] = "newest",
    limit: Limit = 20,
    cursor: Cursor = None,
) -> JobPage:
    """List jobs."""
    shown = JobFilter(
        kind=STORED_KINDS[kind],
        states=state,
        methods=method,
        sweep_id=sweep,
        teacher_id=teacher,
        dataset_id=dataset,
        labels=dict(pair.split(":", 1) for pair in label),
        created_from=_seconds(created_from),
        created_before=_seconds(created_before),
    )
    page = list_jobs(context.db, caller.project_id, shown, order=order, limit=limit, cursor=cursor)
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
async def get(
    job_id: str,
    request: Request,
    context: ContextDep,
    caller: Reader,
    wait: Annotated[
        float,
        Query(ge=0, le=60, description="Seconds to wait for news: for a change, or else for the job's end."),
    ] = 0,
) -> Response:
    """Show a job. Send the answer's ETag back as If-None-Match: 304 while nothing has changed.

    With `wait` the answer comes when there is news, or when the time is over: with If-None-Match when the job has
    changed, without it when the job has ended.
    """
    known = request.headers.get("if-none-match")
    give_up = time.monotonic() + wait
    while True:
        job = await run_in_threadpool(_look, context, caller.project_id, job_id)
        answer = Answer(job.model_dump_json().encode())
        is_news = not matches(known, answer.etag) if known is not None else job.state in ENDED
        if is_news or time.monotonic() >= give_up or await request.is_disconnected():
            break
        await asyncio.sleep(min(POLL_SECONDS, max(0.0, give_up - time.monotonic())))
        await run_in_threadpool(require_good, context.db, caller.key_id)
    if (asked := asked_of(request)) is not None:
        context.polls.keep(asked, answer)
    return answer.to(known)


def _seconds(moment: datetime | None) -> float | None:
    # Answers show times rounded to microseconds: a job's own `created_at` must be found by it.
    return None if moment is None else moment.timestamp() - 5e-7


def _look(context: Context, project_id: str, job_id: str) -> Job:
    row = find(context, project_id, job_id)
    return Job.of(row, why_waiting(context.db, row, context.settings.lease_seconds))


async def create_once(
    context: Context,
    project_id: str,
    body: JobCreate,
    response: Response,
    idempotency_key: str | None,
    origin: dict[str, str],
) -> Job:
    """Check a job and queue it, once for an idempotency key. `origin`: what else its spec says of where it is from.

    Raises:
        Refused: it could not work.
    """
    body_hash = None
    if idempotency_key is not None:
        asked = json.dumps([body.model_dump(mode="json"), origin]) if origin else body.model_dump_json()
        body_hash = hashlib.sha256(asked.encode()).hexdigest()
        earlier = await run_in_threadpool(
            jobs.submitted_before, context.db, project_id, idempotency_key, body_hash
        )
        if earlier is not None:
            return created(response, Submitted(earlier, replayed=True))
    new = await prepare_job(context, project_id, body, idempotency_key, body_hash)
    new = replace(new, spec=new.spec | origin)
    return created(response, await run_in_threadpool(submit, context, new))


def submit(context: Context, new: NewJob) -> Submitted:
    """Queue a job, and ring for a worker."""
    submitted = jobs.submit(context.db, new)
    if not submitted.replayed:
        context.doorbell.ring()
    return submitted


def created(response: Response, submitted: Submitted) -> Job:
    """Answer with a job that was just queued, or was by an earlier request."""
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
