"""`/v1/jobs/{id}/metrics`: a job's figures over its steps."""

from typing import Annotated

from fastapi import APIRouter, Query

from abcore.events import PhaseName
from api.auth import Reader
from api.context import ContextDep
from api.documentation import refusals
from api.paging import Cursor
from api.routes.jobs import find
from api.schemas.jobs import Metric, MetricPage
from store import progress

router = APIRouter(prefix="/v1/jobs/{job_id}/metrics", tags=["jobs"])


@router.get("", operation_id="list_job_metrics", responses=refusals(404))
def list_(
    job_id: str,
    context: ContextDep,
    caller: Reader,
    name: Annotated[str | None, Query(max_length=200, examples=["eval/top1"])] = None,
    phase: Annotated[PhaseName | None, Query(examples=["finetune"])] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    cursor: Cursor = None,
) -> MetricPage:
    """List figures by phase, name and step."""
    find(context, caller.project_id, job_id)
    page = progress.metrics(
        context.db, caller.project_id, job_id, name=name, phase=phase, limit=limit, after=cursor
    )
    return MetricPage(
        data=[Metric.model_validate(row) for row in page.items],
        has_more=page.next_cursor is not None,
        next_cursor=page.next_cursor,
    )
