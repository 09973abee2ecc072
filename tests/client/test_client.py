"""What a user of the Python client sees, against the real API."""

import os
from pathlib import Path
from typing import Any

import pytest
from abdistill import (
    Client,
    ConfigurationError,
    Conflict,
    Invalid,
    JobCancelled,
    JobFailed,
    NotFound,
    Rejected,
    Timeout,
    Unauthorized,
)
from abdistill.models import Job

from store import leases

TEACHER = {
    "architecture": {"arch": "wide_resnet", "depth": 16, "width": 2},
    "image": {"channels": 1, "height": 8, "width": 8},
    "num_classes": 10,
}
STUDENT = {"arch": "wide_resnet", "depth": 10, "width": 1}


def test_address_and_key_come_from_the_environment(
    client: Client, backstage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ABDISTILL_URL", client.base_url + "/")
    monkeypatch.setenv("ABDISTILL_API_KEY", backstage.key)
    with Client() as found:
        assert found.base_url == client.base_url
        found.teachers.list()


@pytest.mark.parametrize("address", ["localhost:8420", "ftp://there", "http://", "http://[::"])
def test_an_address_that_is_none_is_refused_at_once(address: str) -> None:
    with pytest.raises(ConfigurationError, match=r"give one like http://127\.0\.0\.1:8420"):
        Client(address)


def test_a_wrong_key_is_refused(client: Client) -> None:
    with Client(client.base_url, "abd_wrong") as stranger, pytest.raises(Unauthorized) as caught:
        stranger.teachers.list()
    assert caught.value.status == 401


def test_a_teacher_goes_in_and_is_found_good(client: Client, backstage: Any, file: Path) -> None:
    seen: list[tuple[int, int]] = []
    sent = client.teachers.add(
        file, model=TEACHER, name="wrn", progress=lambda done, total: seen.append((done, total)), wait=False
    )
    assert (sent.object, sent.name, sent.state) == ("teacher", "wrn", "pending")
    assert seen[-1] == (3_000_000, 3_000_000)
    backstage.accept()
    teacher = client.teachers.wait(sent.id)
    assert teacher.state == "ready"
    assert teacher.report is not None
    assert teacher.report.description.num_parameters == 691_674
    assert client.teachers.list().data[0].id == sent.id
    client.teachers.delete(sent.id)
    with pytest.raises(NotFound):
        client.teachers.get(sent.id)


def test_an_unusable_upload_says_why(client: Client, backstage: Any, file: Path) -> None:
    sent = client.teachers.add(file, model=TEACHER, wait=False)
    backstage.reject()
    with pytest.raises(Rejected) as caught:
        client.teachers.wait(sent.id)
    text = str(caught.value)
    for part in ("checkpoint:fc.weight", "not (10, 128)", "allowed: (10, 128)", "hint: Give the width"):
        assert part in text


def test_the_same_file_again_is_welcome_and_another_is_not(
    client: Client, file: Path, tmp_path: Path
) -> None:
    dataset = client.datasets.add(file, wait=False)
    assert client.datasets.upload(dataset.id, file).id == dataset.id
    other = tmp_path / "other.npz"
    other.write_bytes(b"something else")
    with pytest.raises(Conflict) as caught:
        client.datasets.upload(dataset.id, other)
    assert caught.value.status == 409


def test_files_that_cannot_be_sent(client: Client, tmp_path: Path) -> None:
    empty = tmp_path / "empty.npz"
    empty.touch()
    for path, word in ((tmp_path, "tar -cf"), (empty, "empty"), (tmp_path / "none.npz", "No such file")):
        with pytest.raises(ConfigurationError, match=word):
            client.datasets.add(path)


def test_a_refused_job_names_field_and_allowed(client: Client, backstage: Any, file: Path) -> None:
    dataset = backstage.ready_dataset(client, file)
    with pytest.raises(Invalid) as caught:
        client.jobs.create(dataset=dataset, student={"arch": "wide_resnet", "depth": 11, "width": 1})
    (item, *_) = caught.value.problem.errors
    assert "student" in (item.where or "")
    assert "use 10 or 16" in str(caught.value)
    assert caught.value.request_id


def test_the_same_idempotency_key_gives_the_same_job(client: Client, backstage: Any, file: Path) -> None:
    first = backstage.submit(client, file, idempotency_key="mine")
    dataset = client.jobs.get(first).dataset
    assert dataset is not None
    again = client.jobs.create(
        dataset=dataset,
        student=STUDENT,
        recipe={"transfer": None, "finetune": {"epochs": 2, "cross_entropy_weight": 1.0, "kd_weight": 0.0}},
        idempotency_key="mine",
    )
    assert again.id == first
    with pytest.raises((Conflict, Invalid)):
        client.jobs.create(dataset=dataset, student=STUDENT | {"depth": 16}, idempotency_key="mine")


def test_watching_sees_every_event_once_and_the_newest_figures(
    client: Client, backstage: Any, file: Path
) -> None:
    job_id = backstage.submit(client, file, name="watched", labels={"of": "tests"})
    updates = client.jobs.watch(job_id, poll_seconds=0.01)
    first = next(updates)
    assert (first.job.state, first.job.name, first.job.labels) == ("queued", "watched", {"of": "tests"})
    lease = backstage.claim()
    backstage.train(lease)
    while (update := next(updates)).job.phase != "finetune":
        pass
    assert update.latest("finetune") == {"loss": 0.5, "eval/top1": 0.9}
    backstage.succeed(lease, os.urandom(1000))
    rest = [first, update, *updates]
    last = rest[-1].job
    assert last.state == "succeeded"
    assert last.report is not None
    assert last.report.boundary_similarity[0].after == 0.9
    told = client.jobs.events(job_id).data
    assert [event.seq for event in told] == list(range(1, len(told) + 1))
    assert rest[-1].events[-1].seq == told[-1].seq


def test_metrics_come_in_pages(client: Client, backstage: Any, file: Path) -> None:
    job_id = backstage.submit(client, file)
    backstage.train(backstage.claim())
    page = client.jobs.metrics(job_id, limit=3)
    assert page.has_more
    rest = client.jobs.metrics(job_id, limit=3, cursor=page.next_cursor)
    assert [(metric.name, metric.step) for metric in (*page.data, *rest.data)] == [
        ("eval/top1", 10),
        ("eval/top1", 20),
        ("loss", 10),
        ("loss", 20),
    ]
    assert {metric.name for metric in client.jobs.metrics(job_id, name="eval/top1").data} == {"eval/top1"}


def test_ends_other_than_success_are_errors(client: Client, backstage: Any, file: Path) -> None:
    failed = backstage.submit(client, file)
    backstage.reject()
    with pytest.raises(JobFailed, match=r"checkpoint:fc\.weight"):
        client.jobs.wait(failed)
    cancelled = backstage.submit(client, file.with_name("images.npz"))
    assert client.jobs.cancel(cancelled).state == "cancelled"
    with pytest.raises(JobCancelled):
        client.jobs.wait(cancelled)
    with pytest.raises(Conflict):
        client.jobs.cancel(cancelled)


def test_waiting_has_an_end_and_the_job_has_not(client: Client, backstage: Any, file: Path) -> None:
    job_id = backstage.submit(client, file)
    with pytest.raises(Timeout, match=r"still queued after 0\.1 s"):
        client.jobs.wait(job_id, timeout_seconds=0.1, poll_seconds=0.02)
    assert client.jobs.get(job_id).state == "queued"


def test_a_job_is_paused_resumed_run_again_and_deleted(client: Client, backstage: Any, file: Path) -> None:
    job_id = backstage.submit(client, file)
    assert client.jobs.pause(job_id).state == "paused"
    assert client.jobs.resume(job_id).state == "queued"
    assert client.jobs.update(job_id, labels={"of": "tests"}, priority=7).priority == 7
    assert [job.id for job in client.jobs.all(labels={"of": "tests"}, state=["queued", "failed"])] == [job_id]
    client.jobs.cancel(job_id)
    again = client.jobs.retry(job_id)
    assert (again.retry_of, again.priority) == (job_id, 7)
    with pytest.raises(Conflict):
        client.jobs.delete(again.id)
    client.jobs.delete(job_id)
    with pytest.raises(NotFound):
        client.jobs.get(job_id)


def test_lists_go_on_from_page_to_page(client: Client, backstage: Any, file: Path) -> None:
    ids = [backstage.submit(client, file) for _ in range(3)]
    first = client.jobs.list(limit=2)
    assert first.has_more
    both = [*first.data, *client.jobs.list(limit=2, cursor=first.next_cursor).data]
    assert [job.id for job in both][:3] == ids[::-1]
    assert {job.state for job in client.jobs.list(state="queued").data} == {"queued"}


def test_an_unknown_artifact_lists_the_known(client: Client, backstage: Any, file: Path) -> None:
    job_id = backstage.submit(client, file)
    with pytest.raises(ConfigurationError, match="none: it is queued"):
        client.jobs.download(job_id)
    backstage.succeed(leases.claim(backstage.db, "tests", 60.0), b"student")
    with pytest.raises(ConfigurationError, match=r"it has student\.onnx, student\.safetensors"):
        client.jobs.download(job_id, "student.pt2")
    with pytest.raises(ConfigurationError, match=r"'pt2': An operator is unknown\. \(it has onnx\)"):
        client.jobs.file_of(job_id, "pt2")


def test_answers_of_a_newer_service_are_understood() -> None:
    answer = {
        "id": "job_1",
        "object": "job",
        "state": "hibernating",
        "created_at": "2026-01-01T00:00:00Z",
        "new": {"a": 1},
    }
    job = Job.model_validate(answer)
    assert (job.state, job.ended, job.problems) == ("hibernating", False, ())
