"""A job's life as its user sees it: create once, list, watch, cancel, fetch what it left."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from abcore import events as told
from store import leases, progress

Refusal = Callable[..., dict[str, Any]]
STUDENT = {"arch": "wide_resnet", "depth": 10, "width": 1}


def test_a_job_is_queued_with_all_that_it_will_do(either: Any) -> None:
    service = either
    teacher = service.ready("teacher", normalization={"mean": [0.25], "std": [0.5]})
    body = {
        "teacher": teacher,
        "dataset": service.ready("dataset"),
        "student": STUDENT,
        "recipe": {"transfer": {"epochs": 3}},
        "name": "first",
        "labels": {"team": "vision"},
        "priority": 5,
    }
    answer = service.client.post("/v1/jobs", json=body)
    assert answer.status_code == 201, answer.text
    job = answer.json()
    assert answer.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert {name: job[name] for name in body if name != "recipe"} == {
        k: v for k, v in body.items() if k != "recipe"
    }
    assert (job["object"], job["state"], job["state_reason"]) == ("job", "queued", "Waiting for a worker.")
    assert job["recipe"]["transfer"]["epochs"] == 3
    assert job["recipe"]["finetune"]["temperature"] == 3  # what was left out is shown with its default
    assert [pair["teacher"]["channels"] for pair in job["plan"]["pairs"]] == [32, 64, 128]
    assert job["plan"]["compression"] > 5
    assert job["created_at"].endswith("Z")
    run = service.claim().job.run
    assert run["teacher"]["num_classes"] == 10
    assert run["normalization"] == {"mean": [0.25], "std": [0.5]}  # the teacher's, where it has one


def test_without_the_teachers_the_datasets_normalization_is_used(service: Any) -> None:
    service.submit()
    assert service.claim().job.run["normalization"] == {"mean": [0.3], "std": [0.4]}


def test_what_an_auto_student_becomes_is_decided_before_it_is_queued(service: Any) -> None:
    job = service.submit(student={"arch": "auto", "family": "wide_resnet", "max_params": 100_000})
    assert job["student"]["arch"] == "auto"
    chosen = job["plan"]["student"]
    assert chosen["num_parameters"] <= 100_000
    assert service.claim().job.run["student"] == chosen["spec"]["architecture"]


def test_fifty_creates_at_once_with_one_key_make_one_job(either: Any, refusal: Refusal) -> None:
    service = either
    body = {"dataset": service.ready("dataset"), "student": STUDENT, "name": "once"}
    body["recipe"] = {"transfer": None, "finetune": {"kd_weight": 0, "cross_entropy_weight": 1}}
    headers = {"Idempotency-Key": f"key of {body['dataset']}"}

    def create(_: int) -> httpx.Response:
        return service.client.post("/v1/jobs", json=body, headers=headers)

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(create, range(50)))
    assert sorted(answer.status_code for answer in answers) == [200] * 49 + [201]
    (id_,) = {answer.json()["id"] for answer in answers}
    assert [job["id"] for job in service.client.get("/v1/jobs").json()["data"]].count(id_) == 1
    assert leases.claim(service.db, "tests", 60.0) is not None
    assert leases.claim(service.db, "tests", 60.0) is None
    problem = refusal(
        service.client.post("/v1/jobs", json=body | {"name": "twice"}, headers=headers),
        422,
        "idempotency-conflict",
    )
    assert problem["where"] == "header.Idempotency-Key"
    assert id_ in problem["message"]


def test_a_replay_is_answered_though_the_dataset_is_gone_meanwhile(service: Any) -> None:
    body = {"dataset": service.ready("dataset"), "student": STUDENT}
    body["recipe"] = {"transfer": None, "finetune": {"kd_weight": 0, "cross_entropy_weight": 1}}
    headers = {"Idempotency-Key": "sent before the dataset was deleted"}
    first = service.client.post("/v1/jobs", json=body, headers=headers)
    assert service.client.post(f"/v1/jobs/{first.json()['id']}/cancel").status_code == 200
    assert service.client.delete(f"/v1/datasets/{body['dataset']}").status_code == 204
    again = service.client.post("/v1/jobs", json=body, headers=headers)
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])


def test_cancelling_a_job_that_waits_that_runs_that_has_ended(either: Any, refusal: Refusal) -> None:
    service = either
    dataset = service.ready("dataset")
    waits, runs = (service.submit(dataset=dataset, priority=p)["id"] for p in (0, 1))
    lease = service.claim()
    cancelled = service.client.post(f"/v1/jobs/{waits}/cancel").json()
    assert (cancelled["state"], cancelled["stop_requested"]) == ("cancelled", None)
    assert cancelled["ended_at"] is not None
    for _ in range(2):  # asking again changes nothing
        answer = service.client.post(f"/v1/jobs/{runs}/cancel")
        assert (answer.status_code, answer.headers["Location"]) == (202, f"/v1/jobs/{runs}")
        asked = answer.json()
        assert (asked["state"], asked["stop_requested"]) == ("running", "cancel")
    assert leases.renew(service.db, lease, 60) is leases.Directive.CANCEL
    leases.acknowledge_cancel(service.db, lease)
    assert service.client.get(f"/v1/jobs/{runs}").json()["state"] == "cancelled"
    for id_ in (waits, runs):
        problem = refusal(service.client.post(f"/v1/jobs/{id_}/cancel"), 409, "conflict")
        assert "is cancelled" in problem["message"]
    refusal(service.client.post("/v1/jobs/job_none/cancel"), 404, "not-found")


def test_a_list_is_walked_by_cursor_while_jobs_are_added(service: Any) -> None:
    dataset = service.ready("dataset")
    ids = [service.submit(dataset=dataset)["id"] for _ in range(5)]
    seen, query = [], {"limit": 2, "state": "queued"}
    while True:
        page = service.client.get("/v1/jobs", params=query).json()
        assert page["object"] == "list"
        seen += [job["id"] for job in page["data"]]
        if not page["has_more"]:
            break
        query["cursor"] = page["next_cursor"]
        service.submit(dataset=dataset)  # newer ones neither shift the pages nor show up in them
    assert seen == ids[::-1]
    assert page["next_cursor"] is None
    service.client.post(f"/v1/jobs/{ids[2]}/cancel")
    queued = service.client.get("/v1/jobs", params={"limit": 100, "state": "queued"}).json()["data"]
    assert {job["state"] for job in queued} == {"queued"}
    assert ids[2] not in [job["id"] for job in queued]


def test_verifications_are_not_shown_as_jobs(service: Any, refusal: Refusal) -> None:
    id_ = service.create("dataset")["id"]
    service.client.put(f"/v1/datasets/{id_}/content", content=b"x")
    verification = service.claim().job.id
    assert verification not in [job["id"] for job in service.client.get("/v1/jobs").json()["data"]]
    for path in ("", "/events", "/metrics", "/artifacts"):
        refusal(service.client.get(f"/v1/jobs/{verification}{path}"), 404, "not-found")
    refusal(service.client.post(f"/v1/jobs/{verification}/cancel"), 404, "not-found")


def test_a_job_is_sent_again_only_when_it_has_changed(service: Any) -> None:
    path = f"/v1/jobs/{service.submit()['id']}"
    first = service.client.get(path)
    known = {"If-None-Match": first.headers["ETag"]}
    unchanged = service.client.get(path, headers=known)
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert unchanged.headers["ETag"] == first.headers["ETag"]
    service.claim()
    changed = service.client.get(path, headers=known)
    assert (changed.status_code, changed.json()["state"]) == (200, "running")


def test_events_and_figures_are_read_in_pages(either: Any) -> None:
    service = either
    id_ = service.submit()["id"]
    lease = service.claim()
    records: list[told.Record] = [told.PhaseStarted(phase="finetune", epochs=2, steps_per_epoch=3)]
    for step in (3, 6):
        values = {"loss": 1 / step, "eval/top1": 0.1 * step}
        records.append(told.Metrics(phase="finetune", epoch=step // 3 - 1, step=step, values=values))
    now = told.Progress(
        phase="finetune", epoch=1, step=6, fraction=0.5, images_per_second=9.0, eta_seconds=4.0
    )
    progress.record(service.db, lease, [*records, now])

    job = service.client.get(f"/v1/jobs/{id_}").json()
    shown = {
        name: job[name] for name in ("progress", "phase", "epoch", "step", "images_per_second", "eta_seconds")
    }
    assert list(shown.values()) == [0.5, "finetune", 1, 6, 9.0, 4.0]

    types, after = [], 0
    while True:
        page = service.client.get(f"/v1/jobs/{id_}/events", params={"after": after, "limit": 1}).json()
        types += [event["type"] for event in page["data"]]
        after = page["data"][-1]["seq"]
        if not page["has_more"]:
            break
        assert page["next_cursor"] == str(after)
    assert types == ["job.queued", "job.running", "phase.started"]
    assert service.client.get(f"/v1/jobs/{id_}/events", params={"after": after}).json()["data"] == []

    path, query = f"/v1/jobs/{id_}/metrics", {"limit": 3}
    first = service.client.get(path, params=query).json()
    rest = service.client.get(path, params=query | {"cursor": first["next_cursor"]}).json()
    figures = [(one["name"], one["step"]) for one in first["data"] + rest["data"]]
    assert figures == [("eval/top1", 3), ("eval/top1", 6), ("loss", 3), ("loss", 6)]
    named = service.client.get(path, params={"name": "loss", "phase": "finetune"}).json()["data"]
    assert [one["value"] for one in named] == [1 / 3, 1 / 6]
    assert service.client.get(path, params={"phase": "transfer"}).json()["data"] == []


def test_a_file_that_is_not_there_or_not_any_more_is_told_apart(service: Any, refusal: Refusal) -> None:
    id_ = service.submit()["id"]
    lease = service.claim()
    lost = service.file(lease, "lost.bin", b"bytes")
    service.succeed(lease, [lost])
    service.blobs.delete(lost.blob_key)
    refusal(service.client.get(f"/v1/jobs/{id_}/artifacts/nothing"), 404, "not-found")
    refusal(service.client.get(f"/v1/jobs/{id_}/artifacts/lost.bin"), 410, "gone")


def test_a_preset_is_listed_whole_and_can_be_sent_back(service: Any, refusal: Refusal) -> None:
    listed = service.client.get("/v1/recipes").json()["data"]
    assert [preset["name"] for preset in listed] == ["paper-cifar", "paper-transfer", "modern"]
    modern = service.client.get("/v1/recipes/modern").json()
    assert modern == listed[2]
    inputs = {"teacher": service.ready("teacher"), "dataset": service.ready("dataset"), "student": STUDENT}
    whole = service.client.post("/v1/jobs", json={**inputs, "recipe": modern["recipe"]})
    by_name = service.client.post("/v1/jobs", json={**inputs, "preset": "modern"})
    assert whole.status_code == by_name.status_code == 201
    assert whole.json()["recipe"] == by_name.json()["recipe"] == modern["recipe"]
    changes = {"preset": "modern", "recipe": {"finetune": {"epochs": 3}}}
    changed = service.client.post("/v1/jobs", json={**inputs, **changes}).json()["recipe"]
    assert changed == {**modern["recipe"], "finetune": {**modern["recipe"]["finetune"], "epochs": 3}}
    wrong = refusal(service.client.post("/v1/jobs", json={**inputs, "preset": "morden"}), 422)
    assert (wrong["where"], wrong["value"]) == ("preset", "morden")
    assert "modern" in wrong["allowed"]
    refusal(service.client.get("/v1/recipes/morden"), 404, "not-found")


def test_every_family_is_listed_with_fields_limits_and_defaults(client: httpx.Client) -> None:
    families = {family["arch"]: family for family in client.get("/v1/architectures").json()["data"]}
    assert {"wide_resnet", "resnet_cifar", "torchvision", "timm", "layers", "auto"} <= set(families)
    depth = families["wide_resnet"]["fields"]["depth"]
    assert (depth["minimum"], depth["maximum"]) == (10, 100)
    assert families["wide_resnet"]["required"] == ["depth", "width"]
    assert families["resnet_cifar"]["fields"]["width"]["default"] == 1
    layers = families["layers"]
    assert {"Conv", "Residual", "BatchNorm"} <= set(layers["definitions"])
    assert families["wide_resnet"]["definitions"] == {}
