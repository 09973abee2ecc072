"""What is checked before a sweep is queued: every one of its jobs, so that none of them can fail for what was asked."""

import asyncio
import copy
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from abcore.specs.refusals import Problem
from api.context import Context
from api.overrides import VARIABLE, Path, parse_path, read_at, set_at, validated
from api.problems import Refused
from api.schemas.jobs import JobCreate
from api.schemas.sweeps import MOST_JOBS, SweepCreate
from api.submission import prepare_job
from store.jobs import NewJob

MOST_PROBLEMS = 20
AT_ONCE = 8
"""Jobs that are held against teacher and dataset at the same time."""


@dataclass(frozen=True)
class Combination:
    """One job of a sweep: its fields by path, as they were written, and where each of them stands in the request."""

    values: dict[str, Any]
    places: dict[Path, str]


@dataclass(frozen=True)
class Prepared:
    """A sweep's jobs, ready to be queued, and the seed of the views that they share, if the sweep has set it."""

    jobs: list[NewJob]
    view_seed: int | None


async def prepare_sweep(context: Context, project_id: str, body: SweepCreate) -> Prepared:
    """Work out and check every job.

    Raises:
        Refused: 422 with each thing that is wrong, in whichever job; 409 a teacher or dataset is not ready.
        TorchUnavailable
    """
    combinations = _combinations(body)
    view_seed = _shared_view_seed(body, combinations)
    wanted = [_body_of(body, combination, view_seed) for combination in combinations]
    wrong = [problem for found in wanted if isinstance(found, list) for problem in found]
    if wrong:
        raise Refused(*_distinct(wrong))
    turns = asyncio.Semaphore(AT_ONCE)

    async def prepare(index: int, job: JobCreate) -> NewJob | Refused:
        async with turns:
            try:
                new = await prepare_job(context, project_id, job)
            except Refused as refused:
                return refused
        origin = {"overrides": combinations[index].values, "sweep_index": index}
        return replace(new, spec=new.spec | origin)

    jobs = [job for job in wanted if isinstance(job, JobCreate)]
    prepared = await asyncio.gather(*(prepare(index, job) for index, job in enumerate(jobs)))
    refused = [
        _placed(problem, combinations[index])
        for index, one in enumerate(prepared)
        if isinstance(one, Refused)
        for problem in one.problems
    ]
    if refused:
        raise Refused(*_distinct(refused))
    return Prepared([one for one in prepared if isinstance(one, NewJob)], view_seed)


def _combinations(body: SweepCreate) -> list[Combination]:
    if body.grid is None:
        points = body.points or []
        for index, point in enumerate(points):
            _check_paths(point, f"points.{index}")
            if point in points[:index]:
                raise Refused(_repeated(f"points.{index}", point))
        return [
            Combination(point, {parse_path(path): f"points.{index}.{path}" for path in point})
            for index, point in enumerate(points)
        ]
    _check_grid(body.grid)
    places = {parse_path(path): f"grid.{path}" for path in body.grid}
    return [
        Combination(dict(zip(body.grid, values, strict=True)), places)
        for values in itertools.product(*body.grid.values())
    ]


def _check_grid(grid: dict[str, list[Any]]) -> None:
    _check_paths(grid, "grid")
    for path, values in grid.items():
        if not values:
            problem = Problem(
                code="sweep.empty",
                message="no value is given",
                where=f"grid.{path}",
                value=values,
                allowed=("length >= 1",),
            )
            raise Refused(problem)
    count = math.prod(map(len, grid.values()))
    if count > MOST_JOBS:
        problem = Problem(
            code="sweep.too_many",
            message=f"the grid has {count:,} combinations, and a sweep at most {MOST_JOBS} jobs",
            where="grid",
            value=count,
            allowed=(f"<= {MOST_JOBS}",),
        )
        raise Refused(problem)
    for path, values in grid.items():
        for index, value in enumerate(values):
            if value in values[:index]:
                raise Refused(_repeated(f"grid.{path}.{index}", value))


def _check_paths(fields: dict[str, Any], where: str) -> None:
    seen: list[Path] = []
    for text in fields:
        path = parse_path(text)
        if path[0] not in VARIABLE or not all(path):
            raise Refused(
                Problem(
                    code="sweep.path",
                    message=f"{text!r} is no field of a job that can vary",
                    where=f"{where}.{text}",
                    value=text,
                    allowed=tuple(
                        f"{name}..." if name in ("student", "recipe") else name for name in VARIABLE
                    ),
                )
            )
        for other in seen:
            shorter = min(len(path), len(other))
            if path[:shorter] == other[:shorter]:
                raise Refused(
                    Problem(
                        code="sweep.overlap",
                        message=f"{text!r} and {'.'.join(other)!r} set the same field",
                        where=f"{where}.{text}",
                        value=text,
                    )
                )
        seen.append(path)


def _shared_view_seed(body: SweepCreate, combinations: Sequence[Combination]) -> int | None:
    """The views' seed that the sweep sets: the base's own seed, where its user says nothing of the views' seed."""
    path = ("recipe", "augmentation", "view_seed")
    for combination in combinations:
        if any(path[: len(place)] == place for place in combination.places if len(place) > 1):
            return None
    augmentation = read_at(body.base, path[:2])
    if isinstance(augmentation, dict) and "view_seed" in augmentation:
        return None
    seed = read_at(body.base, ("recipe", "seed"))
    return seed if isinstance(seed, int) and not isinstance(seed, bool) else 0


def _body_of(body: SweepCreate, combination: Combination, view_seed: int | None) -> JobCreate | list[Problem]:
    laid = copy.deepcopy(body.base)
    if body.name is not None:
        laid.setdefault("name", body.name)
    for text, value in combination.values.items():
        path = parse_path(text)
        stuck = set_at(laid, path, value)
        if stuck is not None:
            problem = Problem(
                code="sweep.path",
                message=f"{'.'.join(stuck)} has no such field or item",
                where=combination.places[path],
                value=text,
            )
            return [problem]
    found = validated(laid)
    if isinstance(found, list):
        return [_placed(problem, combination) for problem in found]
    if view_seed is None or not found.recipe.needs_teacher or found.recipe.num_views is None:
        return found
    augmentation = found.recipe.augmentation.model_copy(update={"view_seed": view_seed})
    recipe = found.recipe.model_copy(update={"augmentation": augmentation})
    return found.model_copy(update={"recipe": recipe})


def _placed(problem: Problem, combination: Combination) -> Problem:
    """Say where in the request the cause is: at a field that varies, if it is one, or else in the base."""
    path = parse_path(problem.where or "")
    where = f"base.{problem.where}"
    for place, written in combination.places.items():
        shorter = min(len(path), len(place))
        if path[:shorter] == place[:shorter]:
            where = written
    told = ", ".join(f"{name} {value!r}" for name, value in combination.values.items())
    return problem.model_copy(update={"where": where, "message": f"{problem.message} (with {told[:300]})"})


def _distinct(problems: Sequence[Problem]) -> Iterator[Problem]:
    """The first of those that blame the same value at the same place, and no more than can be read."""
    seen: set[tuple[str, str | None, str]] = set()
    for problem in problems:
        blamed = (problem.code, problem.where, repr(problem.value))
        if blamed not in seen and len(seen) < MOST_PROBLEMS:
            seen.add(blamed)
            yield problem


def _repeated(where: str, value: Any) -> Problem:
    return Problem(code="sweep.repeated", message="the same job is given twice", where=where, value=value)
