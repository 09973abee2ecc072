"""`/v1/jobs/{id}/events`: what happened to a job, in order."""

from typing import Annotated

from fastapi import APIRouter, Query

from api.auth import Reader
from api.context import ContextDep
from api.documentation import refusals
from api.routes.jobs import find
from api.schemas.jobs import Event, EventPage, Level
from store import progress
from store.moves import JobEventType

router = APIRouter(prefix="/v1/jobs/{job_id}/events", tags=["jobs"])


@router.get("", operation_id="list_job_events", responses=refusals(404))
def list_(
    job_id: str,
    context: ContextDep,
    caller: Reader,
    after: Annotated[int, Query(ge=0, description="Events with a larger `seq` only.")] = 0,
    level: Annotated[list[Level], Query(max_length=3, description="Any of these.")] = [],  # noqa: B006  # FastAPI copies it
    type_: Annotated[
        list[JobEventType],
        Query(alias="type", max_length=32, examples=[["job.crashed"]], description="Any of these."),
    ] = [],  # noqa: B006  # as above
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> EventPage:
    """List events, oldest first; the last one's `seq` is where to go on. What each type tells: docs/jobs.md."""
    find(context, caller.project_id, job_id)
    rows = progress.events(context.db, caller.project_id, job_id, after, limit + 1, levels=level, types=type_)
    shown = [Event.model_validate(row) for row in rows[:limit]]
    has_more = len(rows) > limit
    return EventPage(data=shown, has_more=has_more, next_cursor=str(shown[-1].seq) if has_more else None)
