"""What a job would be: checked like a job, counted, timed by what jobs before it took, and not queued."""

from collections.abc import Callable
from typing import Any

import pytest

Refusal = Callable[..., dict[str, Any]]
STUDENT = {"arch": "wide_resnet", "depth": 10, "width": 1}
RECIPE = {
    "transfer": {"epochs": 3, "batch_size": 300},
    "finetune": {"epochs": 2, "batch_size": 4000},
}


def test_it_counts_what_training_asks_and_queues_nothing(either: Any) -> None:
    service = either
    before = len(service.client.get("/v1/jobs", params={"limit": 100}).json()["data"])
    body = {"teacher": service.ready("teacher"), "dataset": service.ready("dataset"), "student": STUDENT}
    answer = service.client.post("/v1/jobs:estimate", json={**body, "recipe": RECIPE})
    assert answer.status_code == 200, answer.text
    estimate = answer.json()
    student, teacher = (estimate["plan"][name]["num_macs"] for name in ("student", "teacher"))
    # 1,000 training images: three whole batches of 300, and one batch where the set is smaller than it.
    assert [(phase["phase"], phase["steps"], phase["images"]) for phase in estimate["phases"]] == [
        ("transfer", 9, 2700),
        ("finetune", 2, 2000),
    ]
    assert [phase["macs"] for phase in estimate["phases"]] == [
        images * (3 * student + teacher) for images in (2700, 2000)
    ]
    assert estimate["student_bytes"] == {"safetensors": estimate["plan"]["student"]["size_bytes"]}
    assert len(service.client.get("/v1/jobs", params={"limit": 100}).json()["data"]) == before


def test_its_time_is_that_of_jobs_before_it(service: Any) -> None:
    dataset = service.ready("dataset")
    alone = {"transfer": None, "finetune": {"epochs": 2, "cross_entropy_weight": 1.0, "kd_weight": 0.0}}
    job = service.submit(dataset=dataset, recipe=alone)
    service.succeed(service.claim(), [])  # its report says: one second
    recipe = {**alone, "finetune": {**alone["finetune"], "epochs": 20}}
    body = {"dataset": dataset, "student": STUDENT, "recipe": recipe}
    training = service.client.post("/v1/jobs:estimate", json=body).json()["training"]
    assert job["id"] in training["jobs"]
    if training["jobs"] == [job["id"]]:  # other tests' jobs count too
        assert training["seconds"] == pytest.approx(10.0, rel=0.01)
    assert training["seconds"] > 0


def test_what_could_not_work_is_refused_as_a_job_would_be(service: Any, refusal: Refusal) -> None:
    body = {"dataset": service.ready("dataset"), "student": STUDENT}
    asked, created = (service.client.post(path, json=body) for path in ("/v1/jobs:estimate", "/v1/jobs"))
    assert refusal(asked, 422) == refusal(created, 422)
