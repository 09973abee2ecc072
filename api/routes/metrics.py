"""`/v1/jobs/{id}/metrics`: a job's figures over its steps."""

from collections.abc import Sequence
from itertools import groupby
from typing import Annotated

from fastapi import APIRouter, Query

from abcore.events import PhaseName
from abcore.specs.refusals import Problem
from api.auth import Reader
from api.context import ContextDep
from api.documentation import refusals
from api.paging import Cursor
from api.problems import Refused
from api.routes.jobs import find
from api.schemas.jobs import Metric, MetricPage
from api.thinning import thinned
from store import progress
from store.models import Metric as MetricRow

MOST_THINNED = 100_000
router = APIRouter(prefix="/v1/jobs/{job_id}/metrics", tags=["jobs"])


@router.get("", operation_id="list_job_metrics", responses=refusals(404))
def list_(
    job_id: str,
    context: ContextDep,
    caller: Reader,
    name: Annotated[
        list[Annotated[str, Query(max_length=200)]],
        Query(max_length=32, examples=[["eval/top1"]], description="Any of these."),
    ] = [],  # noqa: B006  # FastAPI copies it
    phase: Annotated[PhaseName | None, Query(examples=["finetune"])] = None,
    from_step: Annotated[int | None, Query(ge=0, lt=2**63, description="Of the phase, included.")] = None,
    to_step: Annotated[int | None, Query(ge=0, lt=2**63, description="Included.")] = None,
    points: Annotated[
        int | None,
        Query(
            ge=3,
            le=10_000,
            description="Thin each curve out to this many points by largest triangles (LTTB): ends and peaks are kept, "
            "and all that is shown was measured. The answer is not paged then.",
        ),
    ] = None,
    limit: Annotated[int | None, Query(ge=1, le=10_000, description="1000, where it is not given.")] = None,
    cursor: Cursor = None,
) -> MetricPage:
    """List figures by phase, name and step."""
    find(context, caller.project_id, job_id)
    _check(from_step, to_step, points, limit, cursor)
    page = progress.metrics(
        context.db,
        caller.project_id,
        job_id,
        names=name,
        phase=phase,
        from_step=from_step,
        to_step=to_step,
        limit=MOST_THINNED if points else limit or 1000,
        after=cursor,
    )
    rows: Sequence[MetricRow] = page.items
    if points is not None:
        if page.next_cursor is not None:
            problem = Problem(
                code="metrics.too_many",
                message=f"there are more than {MOST_THINNED:,} figures to thin out",
                where="query",
                value=f"more than {MOST_THINNED}",
                allowed=(f"<= {MOST_THINNED} figures",),
            )
            raise Refused(problem)
        rows = _thinned(rows, points)
    return MetricPage(
        data=[Metric.model_validate(row) for row in rows],
        has_more=page.next_cursor is not None,
        next_cursor=page.next_cursor,
    )


def _check(
    from_step: int | None, to_step: int | None, points: int | None, limit: int | None, cursor: str | None
) -> None:
    if from_step is not None and to_step is not None and from_step > to_step:
        problem = Problem(
            code="metrics.range",
            message=f"no step is from {from_step} to {to_step}",
            where="query.to_step",
            value=to_step,
            allowed=(f">= {from_step}",),
        )
        raise Refused(problem)
    if points is not None and (limit is not None or cursor is not None):
        given = "cursor" if limit is None else "limit"
        problem = Problem(
            code="metrics.points",
            message=f"{given} says how to page, and a curve of so many points is not paged",
            where=f"query.{given}",
            value=cursor if limit is None else limit,
            allowed=("null",),
        )
        raise Refused(problem)


def _thinned(rows: Sequence[MetricRow], points: int) -> list[MetricRow]:
    kept: list[MetricRow] = []
    for _, group in groupby(rows, key=lambda row: (row.phase, row.name)):
        curve = list(group)
        kept += [curve[place] for place in thinned([(row.step, row.value) for row in curve], points)]
    return kept
