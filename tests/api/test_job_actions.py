"""What a user may do to a job besides cancelling it, and how he finds it again."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from abcore import events as told
from abcore.specs.refusals import Problem
from store import leases, progress

Refusal = Callable[..., dict[str, Any]]


def act(service: Any, id_: str, action: str) -> Any:
    return service.client.post(f"/v1/jobs/{id_}/{action}")


def test_a_job_is_paused_and_resumed(either: Any, refusal: Refusal) -> None:
    service = either
    dataset = service.ready("dataset")
    waits, runs = (service.submit(dataset=dataset, priority=p)["id"] for p in (0, 1))
    lease = service.claim()
    assert act(service, waits, "pause").json()["state"] == "paused"
    answer = act(service, runs, "pause")
    assert (answer.status_code, answer.headers["Location"]) == (202, f"/v1/jobs/{runs}")
    asked = answer.json()
    assert (asked["state"], asked["stop_requested"]) == ("running", "pause")
    assert leases.renew(service.db, lease, 60) is leases.Directive.PAUSE
    leases.requeue(service.db, lease, "stopped")
    assert service.client.get(f"/v1/jobs/{runs}").json()["state"] == "paused"
    assert leases.claim(service.db, "tests", 60) is None
    assert act(service, runs, "resume").json()["state"] == "queued"
    assert service.claim().job.id == runs
    problem = refusal(act(service, runs, "resume"), 409, "conflict")
    assert "only a paused job" in problem["message"]
    act(service, waits, "cancel")
    refusal(act(service, waits, "pause"), 409, "conflict")


def test_a_failed_job_is_run_again_as_another(either: Any, refusal: Refusal) -> None:
    service = either
    job = service.submit(name="n", labels={"a": "b"}, priority=3)
    refusal(act(service, job["id"], "retry"), 409, "conflict")
    leases.fail(service.db, service.claim(), [Problem(code="test", message="broken")])
    answer = act(service, job["id"], "retry")
    again = answer.json()
    assert (answer.status_code, answer.headers["Location"]) == (201, f"/v1/jobs/{again['id']}")
    same = ("name", "labels", "priority", "dataset", "teacher", "student", "recipe", "outputs", "plan")
    assert {field: again[field] for field in same} == {field: job[field] for field in same}
    assert (again["state"], again["retry_of"], again["attempts"]) == ("queued", job["id"], 0)
    assert service.client.get(f"/v1/jobs/{job['id']}").json()["state"] == "failed"
    assert service.claim().job.id == again["id"]


def test_name_labels_and_priority_may_change(either: Any) -> None:
    service = either
    dataset = service.ready("dataset")
    first, second = (service.submit(dataset=dataset)["id"] for _ in range(2))
    positions = [service.client.get(f"/v1/jobs/{id_}").json()["queue_position"] for id_ in (first, second)]
    assert positions == [0, 1]
    changed = service.client.patch(f"/v1/jobs/{second}", json={"priority": 5, "labels": {"x": "y"}}).json()
    assert (changed["priority"], changed["labels"], changed["name"]) == (5, {"x": "y"}, None)
    positions = [service.client.get(f"/v1/jobs/{id_}").json()["queue_position"] for id_ in (first, second)]
    assert positions == [1, 0]
    waiting = service.client.get(f"/v1/jobs/{first}").json()["waiting"]
    assert (waiting["code"], waiting["jobs_ahead"], waiting["until"]) == ("no_worker", 1, None)
    assert "No worker is running" in waiting["message"]
    assert service.claim().job.id == second
    running = service.client.get(f"/v1/jobs/{second}").json()
    assert (running["queue_position"], running["waiting"]) == (None, None)
    events = service.client.get(f"/v1/jobs/{second}/events").json()["data"]
    assert [event["data"] for event in events if event["type"] == "job.updated"] == [
        {"priority": 5, "labels": {"x": "y"}}
    ]


def test_an_ended_job_is_deleted_with_all_that_it_left(either: Any, refusal: Refusal) -> None:
    service = either
    id_ = service.submit()["id"]
    path = f"/v1/jobs/{id_}"
    refusal(service.client.delete(path), 409, "conflict")
    lease = service.claim()
    progress.record(
        service.db, lease, [told.Metrics(time=1.0, phase="finetune", epoch=0, step=1, values={"loss": 1.0})]
    )
    file = service.file(lease, "student.safetensors", b"weights")
    service.succeed(lease, [file])
    assert service.blobs.exists(file.blob_key)
    assert service.client.delete(path).status_code == 204
    assert not service.blobs.exists(file.blob_key)
    for below in ("", "/events", "/metrics", "/artifacts"):
        refusal(service.client.get(path + below), 404, "not-found")
    refusal(service.client.delete(path), 404, "not-found")


def test_a_list_is_narrowed_down(either: Any, refusal: Refusal) -> None:
    service = either
    teacher, dataset = service.ready("teacher"), service.ready("dataset")
    alone = service.submit(dataset=dataset, labels={"team": "a:b", "of": "x"})
    taught = service.submit(dataset=dataset, teacher=teacher, labels={"team": "c"}, recipe={})
    act(service, alone["id"], "cancel")

    def ids(**query: Any) -> list[str]:
        page = service.client.get("/v1/jobs", params={"dataset": dataset, **query}).json()
        return [job["id"] for job in page["data"]]

    both = [taught["id"], alone["id"]]
    assert ids() == both
    assert ids(order="oldest") == both[::-1]
    assert ids(teacher=teacher) == [taught["id"]]
    assert ids(state=["cancelled", "failed"]) == [alone["id"]]
    assert ids(state=["cancelled", "queued"]) == both
    assert ids(method="ab") == both
    assert ids(method=["kd", "ofd"]) == []
    assert ids(order="priority") == both
    assert ids(order="ended") == [alone["id"]]
    assert ids(label="team:a:b") == [alone["id"]]
    assert ids(label=["team:c", "of:x"]) == []
    assert ids(created_from=taught["created_at"]) == [taught["id"]]
    assert ids(created_before=taught["created_at"]) == [alone["id"]]
    first = service.client.get("/v1/jobs", params={"dataset": dataset, "order": "oldest", "limit": 1}).json()
    assert ids(order="oldest", limit=1, cursor=first["next_cursor"]) == [taught["id"]]
    problem = refusal(
        service.client.get("/v1/jobs", params={"order": "ended", "cursor": first["next_cursor"]}), 422
    )
    assert problem["where"] == "query.cursor"
    for name, wrong, right in (("method", "abs", "ab"), ("order", "best", "ended")):
        problem = refusal(service.client.get("/v1/jobs", params={name: wrong}), 422)
        assert (problem["where"].split(".")[:2], problem["value"]) == (["query", name], wrong)
        assert right in problem["allowed"]
    for wrong, code in (("0.5", "datetime_parsing"), ("2026-01-31T12:00:00", "timezone_aware")):
        problem = refusal(service.client.get("/v1/jobs", params={"created_from": wrong}), 422)
        assert (problem["where"], problem["code"]) == ("query.created_from", f"request.{code}")
    problem = refusal(service.client.get("/v1/jobs", params={"label": "team"}), 422)
    assert problem["where"] == "query.label"
    problem = refusal(service.client.get("/v1/jobs", params={"state": "done"}), 422)
    assert "succeeded" in problem["allowed"]


@pytest.mark.parametrize("knows", [True, False])
def test_who_waits_is_told_at_once(service: Any, knows: bool) -> None:
    path = f"/v1/jobs/{service.submit()['id']}"
    headers = {"If-None-Match": service.client.get(path).headers["ETag"]} if knows else {}
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(service.client.get, path, params={"wait": 30}, headers=headers)
        time.sleep(0.2)  # the question is on its way; were it not, the answer would only come sooner
        assert not asked.done()
        began = time.monotonic()
        service.client.post(f"{path}/cancel")
        answer = asked.result()
    assert answer.json()["state"] == "cancelled"
    assert time.monotonic() - began < 15  # not the thirty seconds that it would have waited
    unchanged = service.client.get(
        path, params={"wait": 0.1}, headers={"If-None-Match": answer.headers["ETag"]}
    )
    assert unchanged.status_code == 304
