"""`/v1/compare`: students side by side."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import StringConstraints

from abcore.specs.refusals import Problem
from abcore.specs.reports import DistillReport
from api.auth import Reader
from api.comparisons import best_of, compare_students, curves, differences, similarity
from api.context import Context, ContextDep
from api.problems import Refused
from api.routes.sweeps import in_order
from api.schemas.comparisons import Comparison
from store import artifacts, job_sweeps
from store.curves import last_of_epochs, names_of
from store.errors import NotFound
from store.job_lists import find_all
from store.models import Job

MOST_JOBS = 50
CURVES = ["eval/top1", "loss"]
router = APIRouter(prefix="/v1/compare", tags=["jobs"])


@router.get("", operation_id="compare_jobs")
def compare(
    context: ContextDep,
    caller: Reader,
    jobs: Annotated[
        str | None,
        Query(
            max_length=MOST_JOBS * 50, examples=["job_01K1,job_01K2"], description="Ids, separated by commas."
        ),
    ] = None,
    sweep: Annotated[str | None, Query(max_length=40, description="All jobs of a sweep.")] = None,
    split: Annotated[
        str | None,
        Query(
            max_length=40,
            examples=["test"],
            description="Held-out split that accuracies are of; else the one on which training was followed.",
        ),
    ] = None,
    metric: Annotated[
        list[Annotated[str, StringConstraints(max_length=200)]],
        Query(max_length=8, description="Figures whose curves are shown; may be given several times."),
    ] = CURVES,
    points: Annotated[int, Query(ge=2, le=2000, description="Most epochs of a curve.")] = 200,
) -> Comparison:
    """Put students side by side: accuracy against size, curves by epoch, similarity by tap, and how the specs differ.

    Jobs that have not succeeded are shown with what is known of them so far.
    """
    rows = _chosen(context, caller.project_id, jobs, sweep)
    ids = [job.id for job in rows]
    _check_split(rows, split)
    if metric != CURVES:
        _check_metrics(context, ids, metric)
    compared = compare_students(rows, artifacts.of_jobs(context.db, ids), split)
    return Comparison(
        jobs=compared,
        best=best_of(compared),
        differences=differences(rows),
        similarity=similarity(rows),
        curves=curves(last_of_epochs(context.db, ids, metric), points),
    )


def _chosen(context: Context, project_id: str, jobs: str | None, sweep: str | None) -> list[Job]:
    if (jobs is None) == (sweep is None):
        raise Refused(
            Problem(
                code="compare.what",
                message="give the jobs to compare, or a sweep",
                where="query",
                value=None if jobs is None else "jobs and sweep",
                allowed=("jobs", "sweep"),
            )
        )
    if sweep is not None:
        try:
            return in_order(job_sweeps.jobs_of(context.db, project_id, sweep))
        except NotFound as error:
            problem = Problem(code="compare.sweep", message=str(error), where="query.sweep", value=sweep)
            raise Refused(problem) from error
    ids = list(dict.fromkeys((jobs or "").split(",")))
    if len(ids) > MOST_JOBS:
        problem = Problem(
            code="compare.too_many",
            message=f"{len(ids)} jobs are named, and {MOST_JOBS} can be compared",
            where="query.jobs",
            value=len(ids),
            allowed=(f"<= {MOST_JOBS}",),
        )
        raise Refused(problem)
    found = {job.id: job for job in find_all(context.db, project_id, ids)}
    for id_ in ids:
        if id_ not in found:
            message = f"there is no distillation {id_!r} in this project"
            raise Refused(Problem(code="compare.job", message=message, where="query.jobs", value=id_))
    return [found[id_] for id_ in ids]


def _check_split(jobs: list[Job], split: str | None) -> None:
    reports = [DistillReport.model_validate(job.report) for job in jobs if job.report is not None]
    measured = {name for report in reports for name in report.student_accuracy}
    if split is not None and split not in measured:
        problem = Problem(
            code="compare.split",
            message=f"no job was measured on {split!r}",
            where="query.split",
            value=split,
            allowed=tuple(sorted(measured)),
        )
        raise Refused(problem)


def _check_metrics(context: Context, ids: list[str], names: list[str]) -> None:
    known = names_of(context.db, ids)
    for name in names:
        if name not in known:
            problem = Problem(
                code="metrics.name",
                message=f"no job has a figure {name!r}",
                where="query.metric",
                value=name,
                allowed=tuple(known),
            )
            raise Refused(problem)
