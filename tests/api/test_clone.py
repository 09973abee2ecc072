"""A job like another, but for what is changed."""

from collections.abc import Callable
from typing import Any

from abcore.specs.refusals import Problem
from store import leases

Refusal = Callable[..., dict[str, Any]]


def test_a_clone_is_the_same_but_for_what_is_changed(either: Any) -> None:
    teacher, dataset = either.ready("teacher"), either.ready("dataset")
    recipe = {"seed": 3, "transfer": {"epochs": 4}, "finetune": {"epochs": 5, "temperature": 2}}
    job = either.submit(
        dataset=dataset, teacher=teacher, recipe=recipe, name="n", labels={"a": "b"}, max_runtime_seconds=60
    )
    path = f"/v1/jobs/{job['id']}/clone"
    same = either.client.post(path, json={})
    clone = same.json()
    assert (same.status_code, same.headers["Location"]) == (201, f"/v1/jobs/{clone['id']}")
    assert clone["clone_of"] == job["id"]
    fields = ("name", "labels", "priority", "dataset", "teacher", "student", "recipe", "outputs", "plan")
    assert {field: clone[field] for field in fields} == {field: job[field] for field in fields}
    assert (clone["max_runtime_seconds"], clone["state"]) == (60, "queued")
    changes = {"recipe": {"finetune": {"epochs": 9}}, "student": {"width": 2}, "max_runtime_seconds": None}
    other = either.client.post(path, json=changes).json()
    assert (other["recipe"]["finetune"]["epochs"], other["recipe"]["finetune"]["temperature"]) == (9, 2)
    assert other["recipe"]["transfer"] == job["recipe"]["transfer"]
    assert other["student"] == {"arch": "wide_resnet", "depth": 10, "width": 2}
    assert other["max_runtime_seconds"] is None
    assert other["plan"]["student"]["num_parameters"] > job["plan"]["student"]["num_parameters"]


def test_an_architecture_or_a_preset_takes_the_place_of_the_whole(service: Any) -> None:
    teacher, dataset = service.ready("teacher"), service.ready("dataset")
    job = service.submit(dataset=dataset, teacher=teacher, recipe={"seed": 3, "finetune": {"temperature": 2}})
    path = f"/v1/jobs/{job['id']}/clone"
    other = service.client.post(path, json={"student": {"arch": "resnet_cifar", "depth": 8}}).json()
    assert other["student"]["arch"] == "resnet_cifar"
    assert "width" not in job["student"] or other["student"]["width"] == 1
    modern = service.client.post(path, json={"preset": "modern"}).json()
    assert (modern["recipe"]["seed"], modern["recipe"]["method"]["margin"]) == (0, 3)
    seeded = service.client.post(path, json={"preset": "modern", "recipe": {"seed": 8}}).json()
    assert (seeded["recipe"]["seed"], seeded["recipe"]["method"]["margin"]) == (8, 3)


def test_a_job_in_whatever_state_is_cloned_and_once_for_a_key(either: Any, refusal: Refusal) -> None:
    job = either.submit()
    leases.fail(either.db, either.claim(), [Problem(code="test", message="broken")])
    path, key = f"/v1/jobs/{job['id']}/clone", {"Idempotency-Key": f"clone of {job['id']}"}
    first, again = (either.client.post(path, json={"priority": 3}, headers=key) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    refusal(either.client.post(path, json={"priority": 4}, headers=key), 422, "idempotency-conflict")


def test_what_would_be_no_job_is_refused_like_a_new_one(service: Any, refusal: Refusal) -> None:
    job = service.submit()
    path = f"/v1/jobs/{job['id']}/clone"
    problem = refusal(service.client.post(path, json={"recipe": {"finetune": {"epochs": 0}}}), 422)
    assert (problem["where"], problem["value"], problem["allowed"]) == ("recipe.finetune.epochs", 0, [">= 1"])
    problem = refusal(service.client.post(path, json={"student": {"widht": 2}}), 422)
    assert (problem["where"], problem["value"]) == ("student.widht", 2)
    assert "width" in problem["allowed"]
    problem = refusal(service.client.post(path, json={"recipes": {}}), 422)
    assert "recipe" in problem["allowed"]
    problem = refusal(service.client.post(path, json={"dataset": "dst_none"}), 422)
    assert (problem["where"], problem["value"]) == ("dataset", "dst_none")
    refusal(service.client.post("/v1/jobs/job_none/clone", json={}), 404, "not-found")
