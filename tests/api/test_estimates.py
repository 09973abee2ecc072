"""What a job would be: checked like a job, counted, timed by what jobs before it took, and not queued."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update

from abcore.events import Progress
from store import progress, workers
from store.models import Job

Refusal = Callable[..., dict[str, Any]]
STUDENT = {"arch": "wide_resnet", "depth": 10, "width": 1}
ALONE = {"transfer": None, "finetune": {"epochs": 2, "cross_entropy_weight": 1.0, "kd_weight": 0.0}}
RECIPE = {
    "transfer": {"epochs": 3, "batch_size": 300},
    "finetune": {"epochs": 2, "batch_size": 4000},
}


def test_it_counts_what_training_asks_and_queues_nothing(either: Any) -> None:
    service = either
    before = len(service.client.get("/v1/jobs", params={"limit": 100}).json()["data"])
    body = {"teacher": service.ready("teacher"), "dataset": service.ready("dataset"), "student": STUDENT}
    outputs = {"formats": ["onnx-int8"]}
    answer = service.client.post("/v1/jobs:estimate", json={**body, "recipe": RECIPE, "outputs": outputs})
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
    size = estimate["plan"]["student"]["size_bytes"]
    assert estimate["student_bytes"] == {"safetensors": size, "onnx-int8": size // 4}
    assert len(service.client.get("/v1/jobs", params={"limit": 100}).json()["data"]) == before


def test_its_time_is_that_of_jobs_before_it(service: Any) -> None:
    dataset = service.ready("dataset")
    alone = {"transfer": None, "finetune": {"epochs": 2, "cross_entropy_weight": 1.0, "kd_weight": 0.0}}
    job = service.submit(dataset=dataset, recipe=alone)
    service.succeed(service.claim(), [])  # its report says: one second
    recipe = {**alone, "finetune": {**alone["finetune"], "epochs": 20}}
    body = {"dataset": dataset, "student": STUDENT, "recipe": recipe}
    estimate = service.client.post("/v1/jobs:estimate", json=body).json()
    training = estimate["training"]
    assert job["id"] in training["jobs"]
    if training["jobs"] == [job["id"]]:  # other tests' jobs count too
        assert training["seconds"] == pytest.approx(10.0, rel=0.01)
    assert training["seconds"] > 0
    macs = sum(phase["macs"] for phase in estimate["phases"])
    assert training["macs_per_second"] == pytest.approx(macs / training["seconds"], rel=0.01)
    assert "of this project" in training["basis"]


def test_its_memory_is_bounded_part_by_part(service: Any) -> None:
    body = {"teacher": service.ready("teacher"), "dataset": service.ready("dataset"), "student": STUDENT}

    def memory(**recipe: Any) -> dict[str, int]:
        answer = service.client.post("/v1/jobs:estimate", json={**body, "recipe": RECIPE | recipe})
        told: dict[str, int] = answer.json()["memory"]
        assert told["total_bytes"] == sum(
            value for name, value in told.items() if name.endswith("_bytes") and name != "total_bytes"
        )
        return told

    small, large = memory(), memory(finetune={"batch_size": 8000})
    assert small["dataset_bytes"] == 1000 * 64
    assert (
        large["activation_bytes"] == 2 * small["activation_bytes"]
    )  # the largest batch of both phases counts
    assert large["student_bytes"] == small["student_bytes"]
    adam = memory(transfer={"optimizer": {"name": "adamw"}})
    weights = adam["student_bytes"] - small["student_bytes"]
    assert small["student_bytes"] == pytest.approx(3 * weights, rel=0.02)  # weights, gradients, momentum
    alone = memory(transfer=None, finetune={"kd_weight": 0, "cross_entropy_weight": 1})
    assert (alone["teacher_bytes"], alone["tap_bytes"], alone["connector_bytes"]) == (0, 0, 0)


@pytest.fixture
def idle(service: Any) -> None:
    """No job runs or waits: those that other tests have left are over."""
    unfinished = Job.state.in_(("queued", "running", "paused"))
    over = {
        "state": "cancelled",
        "lease_owner": None,
        "lease_expires_at": None,
        "lease_epoch": Job.lease_epoch + 1,
    }
    with service.db.write() as session:
        session.execute(update(Job).where(unfinished).values(**over))


@pytest.mark.usefixtures("idle")
def test_the_queue_is_foretold_from_what_runs_and_what_waits(service: Any) -> None:
    dataset = service.ready("dataset")
    service.submit(dataset=dataset)
    service.succeed(service.claim(), [])
    body = {"dataset": dataset, "student": STUDENT, "recipe": ALONE}

    def queue(**fields: Any) -> dict[str, Any]:
        told: dict[str, Any] = service.client.post("/v1/jobs:estimate", json=body | fields).json()["queue"]
        return told

    told = queue()
    assert (told["workers"], told["seconds"]) == (0, None)
    assert "No worker is running" in told["basis"]
    workers.announce(service.db, "wrk_estimates", 1)
    try:
        told = queue()
        assert (told["position"], told["running"], told["slots"], told["seconds"]) == (0, 0, 1, 0)
        service.submit(dataset=dataset)
        lease = service.claim()
        assert (queue()["seconds"], queue()["running"]) == (None, 1)
        assert "has not said yet" in queue()["basis"]
        step = told_progress(fraction=0.5, eta_seconds=40.0)
        progress.record(service.db, lease, [step])
        assert queue()["seconds"] == 40
        service.submit(dataset=dataset)
        speed = service.client.post("/v1/jobs:estimate", json=body).json()["training"]["seconds"]
        told = queue()
        assert told["position"] == 1
        assert told["seconds"] == pytest.approx(40 + speed, abs=0.2)
        assert queue(priority=1)["seconds"] == 40  # it would be taken before the one that waits
        service.succeed(lease, [])
    finally:
        workers.leave(service.db, "wrk_estimates")


def told_progress(**figures: float) -> Progress:
    return Progress(phase="finetune", epoch=0, step=1, images_per_second=1.0, **figures)


def test_what_could_not_work_is_refused_as_a_job_would_be(service: Any, refusal: Refusal) -> None:
    body = {"dataset": service.ready("dataset"), "student": STUDENT}
    asked, created = (service.client.post(path, json=body) for path in ("/v1/jobs:estimate", "/v1/jobs"))
    assert refusal(asked, 422) == refusal(created, 422)
