"""Sweeps: every job is checked before any is queued, all are queued at once, and shown side by side."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from abcore.specs.refusals import Problem
from store import leases

Refusal = Callable[..., dict[str, Any]]
STUDENT = {"arch": "wide_resnet", "depth": 10, "width": 1}
ALONE = {"transfer": None, "finetune": {"epochs": 2, "cross_entropy_weight": 1.0, "kd_weight": 0.0}}


@pytest.fixture
def base(either: Any) -> dict[str, Any]:
    return {"dataset": either.ready("dataset"), "student": STUDENT, "recipe": ALONE}


@pytest.fixture
def taught(either: Any) -> dict[str, Any]:
    return {"teacher": either.ready("teacher"), "dataset": either.ready("dataset"), "student": STUDENT}


def post(service: Any, body: dict[str, Any], **headers: str) -> httpx.Response:
    answer: httpx.Response = service.client.post("/v1/sweeps", json=body, headers=headers)
    return answer


def runs_of(service: Any) -> list[dict[str, Any]]:
    runs = []
    while (lease := leases.claim(service.db, "tests", 3600.0)) is not None:
        runs.append(lease.job.run)
    return runs


def test_a_grid_makes_a_job_of_every_combination(either: Any, base: dict[str, Any]) -> None:
    grid = {"student.width": [1, 2], "/recipe/finetune/epochs": [3, 4, 5]}
    answer = post(either, {"name": "widths", "base": base, "grid": grid})
    sweep = answer.json()
    assert (answer.status_code, answer.headers["Location"]) == (201, f"/v1/sweeps/{sweep['id']}")
    assert (sweep["state"], sweep["num_jobs"], sweep["counts"]["queued"]) == ("active", 6, 6)
    assert (sweep["base"], sweep["grid"], sweep["points"]) == (base, grid, None)
    jobs = either.client.get("/v1/jobs", params={"sweep": sweep["id"], "limit": 100}).json()["data"]
    chosen = {(job["student"]["width"], job["recipe"]["finetune"]["epochs"]) for job in jobs}
    assert chosen == {(width, epochs) for width in (1, 2) for epochs in (3, 4, 5)}
    assert all(job["recipe"]["finetune"]["kd_weight"] == 0 for job in jobs), "the rest is the base's"
    for job in jobs:
        assert (job["sweep"], job["name"]) == (sweep["id"], "widths")
        assert job["overrides"] == {
            "student.width": job["student"]["width"],
            "/recipe/finetune/epochs": job["recipe"]["finetune"]["epochs"],
        }
    shown = either.client.get(f"/v1/sweeps/{sweep['id']}").json()
    order = [tuple(job["overrides"].values()) for job in shown["jobs"]]
    assert order == [(width, epochs) for width in (1, 2) for epochs in (3, 4, 5)]
    assert (shown["best"], shown["jobs"][0]["state"]) == (None, "queued")
    assert shown["jobs"][0]["parameters"] < shown["jobs"][-1]["parameters"]


def test_points_are_just_those_that_are_listed(either: Any, taught: dict[str, Any]) -> None:
    points = [{"recipe.method.name": "ab"}, {"recipe.method.name": "kd", "recipe.finetune.temperature": 4}]
    sweep = post(either, {"base": taught, "points": points}).json()
    assert sweep["num_jobs"] == 2
    jobs = either.client.get(f"/v1/sweeps/{sweep['id']}").json()["jobs"]
    assert [job["overrides"] for job in jobs] == points
    found = either.client.get(f"/v1/jobs/{jobs[1]['id']}").json()
    assert (found["method"], found["recipe"]["finetune"]["temperature"]) == ("kd", 4)


def test_seeds_differ_and_views_do_not_unless_their_user_says_so(service: Any, refusal: Refusal) -> None:
    base = {"teacher": service.ready("teacher"), "dataset": service.ready("dataset"), "student": STUDENT}
    seeds = {"recipe.seed": [4, 5, 6]}
    sweep = post(service, {"base": base, "grid": seeds}).json()
    assert sweep["view_seed"] == 0
    assert [run["recipe"]["augmentation"]["view_seed"] for run in runs_of(service)] == [0, 0, 0]
    with_seed = {**base, "recipe": {"seed": 7}}
    assert post(service, {"base": with_seed, "grid": {"student.width": [1, 2]}}).json()["view_seed"] == 7
    runs_of(service)
    own = {**base, "recipe": {"augmentation": {"view_seed": None}}}
    assert post(service, {"base": own, "grid": seeds}).json()["view_seed"] is None
    assert [run["recipe"]["augmentation"]["view_seed"] for run in runs_of(service)] == [None] * 3
    varied = {"recipe.augmentation.view_seed": [1, 2]}
    assert post(service, {"base": base, "grid": varied}).json()["view_seed"] is None
    assert [run["recipe"]["augmentation"]["view_seed"] for run in runs_of(service)] == [1, 2]
    fresh = {**base, "recipe": {"augmentation": {"views": "fresh"}}}
    post(service, {"base": fresh, "grid": seeds})
    # Nothing is gained where no view comes again.
    assert [run["recipe"]["augmentation"]["view_seed"] for run in runs_of(service)] == [None] * 3


def test_ten_creates_at_once_with_one_key_make_one_sweep(
    either: Any, base: dict[str, Any], refusal: Refusal
) -> None:
    body = {"base": base, "grid": {"recipe.seed": [1, 2]}}
    key = {"Idempotency-Key": f"sweep of {base['dataset']}"}
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: post(either, body, **key), range(10)))
    assert sorted(answer.status_code for answer in answers) == [200] * 9 + [201]
    (id_,) = {answer.json()["id"] for answer in answers}
    assert len(either.client.get("/v1/jobs", params={"sweep": id_}).json()["data"]) == 2
    other = body | {"grid": {"recipe.seed": [3]}}
    problem = refusal(post(either, other, **key), 422, "idempotency-conflict")
    assert (problem["where"], id_ in problem["message"]) == ("header.Idempotency-Key", True)


def test_a_sweep_is_cancelled_then_deleted(either: Any, base: dict[str, Any], refusal: Refusal) -> None:
    sweep = post(either, {"base": base, "grid": {"recipe.seed": [1, 2, 3]}}).json()
    path = f"/v1/sweeps/{sweep['id']}"
    lease = either.claim()
    problem = refusal(either.client.delete(path), 409, "conflict")
    assert "3 jobs" in problem["message"]
    answer = either.client.post(f"{path}/cancel")
    assert (answer.status_code, answer.headers["Location"]) == (202, path)
    counts = answer.json()["counts"]
    assert (answer.json()["state"], counts["cancelled"], counts["running"]) == ("active", 2, 1)
    leases.acknowledge_cancel(either.db, lease)
    ended = either.client.get(path).json()
    assert (ended["state"], ended["counts"]["cancelled"]) == ("ended", 3)
    assert "nothing left" in refusal(either.client.post(f"{path}/cancel"), 409, "conflict")["message"]
    job = ended["jobs"][0]["id"]
    again = either.client.post(f"/v1/jobs/{job}/retry").json()
    assert (again["sweep"], again["overrides"]) == (sweep["id"], {"recipe.seed": 1})
    either.client.post(f"/v1/jobs/{again['id']}/cancel")
    assert [one["id"] for one in either.client.get(path).json()["jobs"]][:2] == [job, again["id"]]
    assert either.client.delete(path).status_code == 204
    refusal(either.client.get(path), 404, "not-found")
    refusal(either.client.get(f"/v1/jobs/{job}"), 404, "not-found")


def test_sweeps_are_listed_newest_first_and_only_to_their_project(
    either: Any, base: dict[str, Any], refusal: Refusal
) -> None:
    ids = [post(either, {"base": base, "grid": {"recipe.seed": [seed]}}).json()["id"] for seed in (1, 2, 3)]
    first = either.client.get("/v1/sweeps", params={"limit": 2}).json()
    assert [one["id"] for one in first["data"]] == ids[:0:-1]
    assert first["data"][0]["counts"]["queued"] == 1
    rest = either.client.get("/v1/sweeps", params={"limit": 1, "cursor": first["next_cursor"]}).json()
    assert [one["id"] for one in rest["data"]] == ids[:1]
    with either.client_of(either.key_of_another_project()) as stranger:
        assert stranger.get("/v1/sweeps").json()["data"] == []
        for method, path in (("GET", ""), ("POST", "/cancel"), ("DELETE", "")):
            refusal(stranger.request(method, f"/v1/sweeps/{ids[0]}{path}"), 404, "not-found")
        problem = refusal(stranger.get("/v1/compare", params={"sweep": ids[0]}), 422)
        assert (problem["code"], problem["value"]) == ("compare.sweep", ids[0])
    assert either.client.get(f"/v1/sweeps/{ids[0]}").json()["counts"]["queued"] == 1


WRONG: list[tuple[dict[str, Any], str, str, Any, str | None]] = [
    # what is sent over the base, code, where, value, one that is allowed
    ({"grid": {"student.widht": [1, 2]}}, "request.extra_forbidden", "grid.student.widht", 1, "width"),
    ({"grid": {"student.depth": [10, 11]}}, "request.value_error", "grid.student.depth", None, None),
    (
        {"grid": {"recipe.finetune.epochs": [1, 0]}},
        "request.greater_than_equal",
        "grid.recipe.finetune.epochs",
        0,
        ">= 1",
    ),
    (
        {"points": [{"recipe.seed": 1}, {"recipe.seed": "x"}]},
        "request.int_type",
        "points.1.recipe.seed",
        "x",
        None,
    ),
    ({"grid": {"dataset": ["dst_none"]}}, "dataset.unknown", "grid.dataset", "dst_none", None),
    ({"grid": {"labels.x": ["a"]}}, "sweep.path", "grid.labels.x", "labels.x", "recipe..."),
    ({"grid": {"": [1]}}, "sweep.path", "grid.", "", "student..."),
    ({"grid": {"student.width.x": [1]}}, "sweep.path", "grid.student.width.x", "student.width.x", None),
    (
        {"grid": {"recipe.seed": [1], "/recipe/seed": [2]}},
        "sweep.overlap",
        "grid./recipe/seed",
        "/recipe/seed",
        None,
    ),
    (
        {"grid": {"recipe": [{}], "recipe.seed": [2]}},
        "sweep.overlap",
        "grid.recipe.seed",
        "recipe.seed",
        None,
    ),
    ({"grid": {"recipe.seed": []}}, "sweep.empty", "grid.recipe.seed", [], "length >= 1"),
    ({"grid": {"recipe.seed": [1, 2, 1]}}, "sweep.repeated", "grid.recipe.seed.2", 1, None),
    (
        {"points": [{"recipe.seed": 1}, {"recipe.seed": 1}]},
        "sweep.repeated",
        "points.1",
        {"recipe.seed": 1},
        None,
    ),
    (
        {"grid": {"recipe.seed": list(range(21)), "student.width": list(range(1, 11))}},
        "sweep.too_many",
        "grid",
        210,
        "<= 200",
    ),
    ({"grid": {}}, "request.too_short", "grid", None, "length >= 1"),
    ({"points": []}, "request.too_short", "points", None, "length >= 1"),
    (
        {"points": [{"recipe.seed": n} for n in range(201)]},
        "request.too_long",
        "points",
        None,
        "length <= 200",
    ),
    ({}, "request.value_error", "body", None, None),
    (
        {"grid": {"recipe.seed": [1]}, "points": [{"recipe.seed": 1}]},
        "request.value_error",
        "body",
        None,
        None,
    ),
    ({"gird": {"recipe.seed": [1]}}, "request.extra_forbidden", "gird", None, "grid"),
]


@pytest.mark.parametrize(
    ("sent", "code", "where", "value", "allowed"), WRONG, ids=[f"{one[1]} {one[2]}" for one in WRONG]
)
def test_what_cannot_be_swept_is_refused_by_name_value_and_what_is_allowed(
    service: Any, sent: dict[str, Any], code: str, where: str, value: Any, allowed: str | None
) -> None:
    dataset = service.client.get("/v1/datasets", params={"limit": 1}).json()["data"]
    id_ = dataset[0]["id"] if dataset and dataset[0]["state"] == "ready" else service.ready("dataset")
    base = {"dataset": id_, "student": STUDENT, "recipe": ALONE}
    answer = service.client.post("/v1/sweeps", json={"base": base} | sent)
    assert (answer.status_code, answer.headers["Content-Type"]) == (422, "application/problem+json")
    problem = answer.json()["errors"][0]
    assert (problem["code"], problem["where"]) == (code, where)
    assert problem["hint"]
    if value is not None:
        assert problem["value"] == value
    if allowed is not None:
        assert allowed in problem["allowed"]
    assert service.client.get("/v1/sweeps").json()["data"] == [] or not runs_of(service)


def test_every_wrong_combination_is_told_at_once_and_nothing_is_queued(
    either: Any, base: dict[str, Any]
) -> None:
    grid = {"student.depth": [10, 12, 16], "recipe.finetune.temperature": [1, 200]}
    answer = post(either, {"base": base, "grid": grid})
    problems = answer.json()["errors"]
    assert [(one["where"], one["value"]) for one in problems if "temperature" in one["where"]] == [
        ("grid.recipe.finetune.temperature", 200)
    ], "once, though three combinations have it"
    assert {one["where"] for one in problems} == {"grid.recipe.finetune.temperature", "grid.student.depth"}
    assert "recipe.finetune.temperature 200" in problems[0]["message"]
    assert runs_of(either) == []


def test_what_is_wrong_in_the_base_is_told_there(either: Any, base: dict[str, Any], refusal: Refusal) -> None:
    wrong = base | {"student": {**STUDENT, "depth": 10, "wdth": 3}}
    problem = refusal(post(either, {"base": wrong, "grid": {"recipe.seed": [1, 2]}}), 422)
    assert (problem["where"], problem["value"]) == ("base.student.wdth", 3)
    assert "width" in problem["allowed"]


def test_a_base_whose_dataset_is_not_ready_is_refused(service: Any, refusal: Refusal) -> None:
    dataset = service.create("dataset")["id"]
    base = {"dataset": dataset, "student": STUDENT, "recipe": ALONE}
    problem = refusal(post(service, {"base": base, "grid": {"recipe.seed": [1, 2]}}), 409, "not-ready")
    assert (problem["where"], problem["value"], problem["allowed"]) == ("base.dataset", "pending", ["ready"])


def test_a_sweep_ends_whatever_becomes_of_its_jobs(either: Any, base: dict[str, Any]) -> None:
    sweep = post(either, {"base": base, "grid": {"recipe.seed": [1, 2]}}).json()
    either.succeed(either.claim(), [])
    assert either.client.get(f"/v1/sweeps/{sweep['id']}").json()["state"] == "active"
    leases.fail(either.db, either.claim(), [Problem(code="test", message="broken")])
    ended = either.client.get(f"/v1/sweeps/{sweep['id']}").json()
    assert (ended["state"], ended["counts"]["succeeded"], ended["counts"]["failed"]) == ("ended", 1, 1)
