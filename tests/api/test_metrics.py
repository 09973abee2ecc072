"""A job's figures: by name, phase and step, thinned out on request; its events by level and type."""

import math
import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any, get_args

import pytest

from abcore import events as told
from api.thinning import thinned
from store import progress
from store.moves import JobEventType

Refusal = Callable[..., dict[str, Any]]
STEPS = 500


@pytest.fixture(scope="module")
def job(running: Any) -> str:
    """The id of a job with two figures in two phases, with one peak, and a warning."""
    id_ = running.submit()["id"]
    lease = running.claim()
    records: list[told.Record] = []
    for phase in ("transfer", "finetune"):
        for step in range(1, STEPS + 1):
            values = {"loss": 9.0 if step == 123 else 1 / step, "rate": 0.1}
            records.append(told.Metrics(time=1.0, phase=phase, epoch=step // 100, step=step, values=values))
    records.append(told.Note(time=1.0, level="warning", code="bn.small", message="Small batches."))
    for start in range(0, len(records), 100):
        progress.record(running.db, lease, records[start : start + 100])
    running.succeed(lease, [])
    return str(id_)


@pytest.fixture
def figures(running: Any, job: str) -> Callable[..., list[dict[str, Any]]]:
    def ask(**query: Any) -> list[dict[str, Any]]:
        answer = running.client.get(f"/v1/jobs/{job}/metrics", params=query)
        assert answer.status_code == 200, answer.text
        data: list[dict[str, Any]] = answer.json()["data"]
        return data

    return ask


def test_figures_are_chosen_by_name_phase_and_step(figures: Any) -> None:
    found = figures(name="loss", phase="transfer", from_step=10, to_step=12)
    assert [(one["phase"], one["name"], one["step"]) for one in found] == [
        ("transfer", "loss", step) for step in (10, 11, 12)
    ]
    both = figures(name=["loss", "rate"], from_step=STEPS)
    assert [(one["phase"], one["name"]) for one in both] == [
        (phase, name) for phase in ("finetune", "transfer") for name in ("loss", "rate")
    ]
    assert figures(name="other") == []


def test_a_thinned_curve_keeps_its_ends_and_its_peak(figures: Any) -> None:
    found = figures(points=20)
    curves: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for one in found:
        curves.setdefault((one["phase"], one["name"]), []).append(one)
    assert {key: len(curve) for key, curve in curves.items()} == {
        (phase, name): 20 for phase in ("finetune", "transfer") for name in ("loss", "rate")
    }
    for phase in ("finetune", "transfer"):
        curve = curves[phase, "loss"]
        steps = [one["step"] for one in curve]
        assert (steps[0], steps[-1], steps == sorted(set(steps))) == (1, STEPS, True)
        assert max(curve, key=lambda one: one["value"])["step"] == 123
        assert all(one["value"] == (9.0 if one["step"] == 123 else 1 / one["step"]) for one in curve)


def test_thinning_is_that_of_the_publication() -> None:
    """Held against the publication's procedure, written out step by step."""

    def area(a: Any, b: Any, c: Any) -> float:
        return abs((a[0] - c[0]) * (b[1] - a[1]) - (a[0] - b[0]) * (c[1] - a[1])) / 2

    draws = random.Random(1)
    points = [(float(x), math.sin(x / 9) + draws.random()) for x in range(102)]
    most = 12
    buckets = [[0], *(list(range(1 + 10 * run, 11 + 10 * run)) for run in range(10)), [101]]
    expected = [0]
    for bucket, ahead in pairwise(buckets[1:]):
        mean = tuple(sum(points[i][axis] for i in ahead) / len(ahead) for axis in (0, 1))
        expected.append(max(bucket, key=lambda i: area(points[expected[-1]], points[i], mean)))
    assert thinned(points, most) == [*expected, 101]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 17, 100])
@pytest.mark.parametrize("most", [3, 4, 10])
def test_thinning_gives_so_many_and_each_once(count: int, most: int) -> None:
    places = thinned([(float(x), float(x % 3)) for x in range(count)], most)
    assert len(places) == min(count, most)
    assert places == sorted(set(places))
    if count:
        assert (places[0], places[-1]) == (0, count - 1)


@pytest.mark.parametrize(
    ("query", "where", "value", "allowed"),
    [
        ({"phase": "stage1"}, "query.phase", "stage1", ["transfer", "finetune"]),
        ({"from_step": 5, "to_step": 4}, "query.to_step", 4, [">= 5"]),
        ({"from_step": -1}, "query.from_step", "-1", [">= 0"]),
        ({"points": 2}, "query.points", "2", [">= 3"]),
        ({"points": 10, "limit": 5}, "query.limit", 5, ["null"]),
        ({"points": 10, "cursor": "x"}, "query.cursor", "x", ["null"]),
        ({"limit": 10_001}, "query.limit", "10001", ["<= 10000"]),
        ({"cursor": "x"}, "query.cursor", None, []),
        ({"names": "loss"}, "query.names", "loss", None),
    ],
)
def test_what_cannot_be_answered_is_refused(
    running: Any,
    job: str,
    refusal: Refusal,
    query: dict[str, Any],
    where: str,
    value: Any,
    allowed: list[str] | None,
) -> None:
    problem = refusal(running.client.get(f"/v1/jobs/{job}/metrics", params=query), 422)
    assert (problem["where"], problem["value"]) == (where, value)
    assert problem["hint"]
    if allowed is None:
        assert {"name", "phase", "points"} <= set(problem["allowed"])
    else:
        assert problem["allowed"] == allowed


def test_more_figures_than_can_be_thinned_are_refused(
    running: Any, job: str, refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.routes.metrics.MOST_THINNED", 4 * STEPS - 1)
    problem = refusal(running.client.get(f"/v1/jobs/{job}/metrics", params={"points": 10}), 422)
    assert (problem["code"], problem["allowed"]) == ("metrics.too_many", [f"<= {4 * STEPS - 1} figures"])
    narrower = {"points": 10, "name": "loss"}
    assert running.client.get(f"/v1/jobs/{job}/metrics", params=narrower).status_code == 200


def test_events_are_chosen_by_level_and_type(running: Any, job: str, refusal: Refusal) -> None:
    def events(**query: Any) -> list[tuple[str, str]]:
        page = running.client.get(f"/v1/jobs/{job}/events", params=query).json()
        return [(one["level"], one["type"]) for one in page["data"]]

    assert events(level="warning") == [("warning", "note")]
    assert events(type=["job.queued", "job.succeeded"]) == [("info", "job.queued"), ("info", "job.succeeded")]
    assert events(level=["warning", "error"], type="job.queued") == []
    assert len(events(level=["info", "warning"])) == 4
    problem = refusal(running.client.get(f"/v1/jobs/{job}/events", params={"level": "debug"}), 422)
    assert (problem["where"], problem["value"]) == ("query.level", "debug")
    assert problem["allowed"] == ["info", "warning", "error"]
    problem = refusal(running.client.get(f"/v1/jobs/{job}/events", params={"type": "job.started"}), 422)
    assert (problem["where"], problem["value"]) == ("query.type", "job.started")
    assert problem["allowed"] == list(get_args(JobEventType))
