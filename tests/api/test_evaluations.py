"""Evaluations of teachers over HTTP: asked for, refused, shown."""

from collections.abc import Callable
from typing import Any

import pytest

from abcore.specs.refusals import Problem
from abcore.specs.reports import Accuracy, EvaluationReport
from abcore.specs.runs import EvaluateTeacherRun
from store import leases

Refusal = Callable[..., dict[str, Any]]
ACCURACY = Accuracy(top1=0.1, top5=0.5, loss=2.3, num_images=100)


def _asked(service: Any, **changes: str) -> Any:
    teacher = changes.get("teacher") or service.ready("teacher")
    dataset = changes.get("dataset") or service.ready("dataset")
    return service.client.post(f"/v1/teachers/{teacher}/evaluations", json={"dataset": dataset})


def test_an_evaluation_waits_and_then_has_its_figures(either: Any) -> None:
    answer = _asked(either)
    assert answer.status_code == 202
    path, shown = answer.headers["Location"], answer.json()
    assert (shown["object"], shown["state"], shown["accuracy"]) == ("evaluation", "queued", {})
    lease = either.claim()
    run = EvaluateTeacherRun.model_validate(lease.job.run)
    assert run.normalization.mean == (0.3,), "that of the dataset, where the teacher has none of its own"
    warning = Problem(code="teacher.at_chance", message="It knows nothing.", where="dataset:test", value=0.1)
    leases.finish(either.db, lease, EvaluationReport(accuracy={"test": ACCURACY}, warnings=(warning,)), [])
    shown = either.client.get(path).json()
    assert (shown["state"], shown["accuracy"]["test"]["top1"]) == ("succeeded", 0.1)
    assert [(told["code"], bool(told["hint"])) for told in shown["warnings"]] == [("teacher.at_chance", True)]
    listed = either.client.get(path.rpartition("/")[0]).json()["data"]
    assert [one["id"] for one in listed] == [shown["id"]]
    assert either.client.get(f"/v1/teachers/{shown['teacher']}").json()["state"] == "ready"
    assert shown["id"] not in {job["id"] for job in either.client.get("/v1/jobs").json()["data"]}


def test_what_cannot_be_measured_is_refused(service: Any, refusal: Refusal, reports: Any) -> None:
    dataset = service.ready("dataset", reports(num_classes=7))
    problem = refusal(_asked(service, dataset=dataset), 422)
    assert (problem["code"], problem["where"], problem["allowed"]) == (
        "teacher.classes",
        "dataset",
        ["7 classes"],
    )
    larger = service.ready("dataset", reports(image={"channels": 1, "height": 9, "width": 9}))
    assert refusal(_asked(service, dataset=larger), 422)["code"] == "teacher.image"
    assert refusal(_asked(service, dataset="dst_none"), 422)["code"] == "dataset.unknown"
    assert refusal(_asked(service, teacher="tch_none"), 404, "not-found")
    assert refusal(_asked(service, teacher=service.create("teacher")["id"]), 409, "not-ready")


@pytest.mark.parametrize("method", ["get", "post"])
def test_another_projects_teacher_is_not_there(service: Any, refusal: Refusal, method: str) -> None:
    path = _asked(service).headers["Location"]
    with service.client_of(service.key_of_another_project()) as stranger:
        refusal(stranger.get(path), 404, "not-found")
        body = {"json": {"dataset": "dst_x"}} if method == "post" else {}
        refusal(getattr(stranger, method)(path.rpartition("/")[0], **body), 404, "not-found")
