"""`/v1/jobs/{id}/logs` and `log.txt`: what a job's processes wrote."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import PlainTextResponse

from api.auth import Reader
from api.context import ContextDep
from api.documentation import refusals
from api.routes.jobs import find
from api.schemas.jobs import LogPage, LogPart
from store import logs

EVERYTHING = logs.KEPT_BYTES
"""Parts, of which none is empty, and lines: more than a log can have."""
router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["jobs"])
Tail = Annotated[int | None, Query(ge=1, le=EVERYTHING, description="The last so many lines only.")]


@router.get("/logs", operation_id="list_job_logs", responses=refusals(404))
def list_(
    job_id: str,
    context: ContextDep,
    caller: Reader,
    after: Annotated[int, Query(ge=0, lt=2**63, description="Parts with a larger `seq` only.")] = 0,
    tail: Tail = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> LogPage:
    """List what a job's processes wrote, in parts of whole lines; the last one's `seq` is where to go on.

    The last 4 MiB are kept, of all attempts together, until the job is deleted. To follow it: `stream_job` with
    `include=log`.
    """
    find(context, caller.project_id, job_id)
    parts = (
        logs.read(context.db, caller.project_id, job_id, after, limit + 1)
        if tail is None
        else [part for part in logs.tail(context.db, caller.project_id, job_id, tail) if part.seq > after]
    )
    shown = [LogPart.model_validate(part) for part in (parts[:limit] if tail is None else parts)]
    has_more = len(parts) > len(shown)
    return LogPage(data=shown, has_more=has_more, next_cursor=str(shown[-1].seq) if has_more else None)


@router.get(
    "/log.txt",
    operation_id="get_job_log",
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **refusals(404)},
)
def text(job_id: str, context: ContextDep, caller: Reader, tail: Tail = None) -> PlainTextResponse:
    """Show what a job's processes wrote as plain text: what is kept of it, or its last lines."""
    find(context, caller.project_id, job_id)
    parts = logs.tail(context.db, caller.project_id, job_id, tail or EVERYTHING)
    return PlainTextResponse("".join(part.text for part in parts))
