"""Quotas over HTTP: what is refused says which, how much there is, and how much may be."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from store import quotas
from store.models import DEFAULT_PROJECT

Refusal = Callable[..., dict[str, Any]]


@pytest.fixture
def limit(service: Any) -> Iterator[Callable[..., None]]:
    """Gives the default project limits, and takes them away."""
    yield lambda **limits: quotas.set_limits(service.db, DEFAULT_PROJECT, limits)
    quotas.set_limits(service.db, DEFAULT_PROJECT, dict.fromkeys(quotas.QUOTAS))


def test_a_project_is_told_what_it_has(service: Any, limit: Any) -> None:
    before = service.client.get("/v1/usage").json()
    assert (before["object"], before["project"]) == ("usage", DEFAULT_PROJECT)
    limit(queued_jobs=10_000, running_jobs=7)
    service.submit()
    after = service.client.get("/v1/usage").json()
    assert after["queued_jobs"] == {"used": before["queued_jobs"]["used"] + 1, "limit": 10_000}
    assert after["running_jobs"]["limit"] == 7
    assert after["stored_bytes"]["used"] > before["stored_bytes"]["used"]
    assert after["stored_bytes"]["limit"] is None


def test_a_full_queue_refuses_whatever_would_queue_a_job(service: Any, limit: Any, refusal: Refusal) -> None:
    job = service.submit()
    teacher = service.ready("teacher")
    spec = {part: job[part] for part in ("dataset", "student", "recipe")}
    failed = service.submit(**spec)["id"]
    service.client.post(f"/v1/jobs/{failed}/cancel")
    limit(queued_jobs=1)
    for path, body in {
        "/v1/jobs": spec,
        "/v1/sweeps": {"base": spec, "grid": {"recipe.seed": [1, 2]}},
        f"/v1/jobs/{job['id']}/clone": {},
        f"/v1/jobs/{failed}/retry": None,
        f"/v1/teachers/{teacher}/evaluations": {"dataset": job["dataset"]},
        "/v1/teachers/train": {"name": "t", "dataset": job["dataset"], "architecture": job["student"]},
    }.items():
        problem = refusal(service.client.post(path, json=body), 429, "quota")
        assert problem["code"] == "quota.queued_jobs", path
        assert (problem["value"], problem["allowed"]) == (1, ["<= 1"])
    assert service.client.get("/v1/usage").json()["queued_jobs"]["used"] == 1


def test_an_upload_without_room_is_refused_before_it_is_sent(
    service: Any, limit: Any, refusal: Refusal
) -> None:
    stored = service.client.get("/v1/usage").json()["stored_bytes"]["used"]
    id_ = service.create("dataset")["id"]
    limit(stored_bytes=stored + 10)
    path = f"/v1/datasets/{id_}/content"
    announced = {"Content-Length": "11"}
    for content, headers in ((b"x" * 11, announced), (iter([b"x" * 11]), {})):
        answer = service.client.put(path, content=content, headers=headers)
        problem = refusal(answer, 507, "storage-quota")
        assert problem["code"] == "quota.stored_bytes"
        assert (problem["value"], problem["allowed"]) == (stored, [f"<= {stored + 10}"])
    assert not list(service.blobs.list(f"uploads/{id_}"))
    assert service.client.put(path, content=b"x" * 10).status_code == 202
    assert service.client.put(path, content=b"x" * 10).status_code == 202, "the same again takes no room"


def test_a_job_that_its_project_holds_back_says_so(service: Any, limit: Any) -> None:
    first = service.submit()
    second = service.submit(dataset=first["dataset"])
    limit(running_jobs=1)
    assert service.claim().job.id == first["id"]
    waiting = service.client.get(f"/v1/jobs/{second['id']}").json()["waiting"]
    assert waiting["code"] == "quota"
    assert "running_jobs" in waiting["message"]
