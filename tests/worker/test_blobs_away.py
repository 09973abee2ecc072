"""Files in S3, also while the server does not answer: no job pays for that."""

import pytest
from plugins.s3 import S3Server

import store.blobs.s3 as s3_blobs
from worker import attempt

pytestmark = pytest.mark.parametrize("database_url", ["postgres"], indirect=True)


@pytest.fixture
def blobs_url(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(s3_blobs, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(attempt, "BLOBS_SECONDS", 0.1)
    monkeypatch.setattr(attempt, "RETRY_SECONDS", 0.1)
    return s3_url


def test_a_job_runs_from_bucket_to_bucket(house) -> None:
    house.open_gate()
    job = house.submit()
    with house.shift("train") as shift:
        shift.work()
    assert house.get(job).state == "succeeded"
    files = house.files(job)
    assert "student.safetensors" in files
    assert set(house.blobs.list(f"jobs/{job.id}")) == {file.blob_key for file in files.values()}


def test_inputs_that_cannot_be_had_now_are_waited_for(house, s3: S3Server) -> None:
    house.open_gate()
    job = house.submit()
    with house.at_work("train"):
        with s3.frozen():
            house.wait(job, lambda now: "does not answer" in (now.state_reason or ""))
        done = house.wait(job, lambda now: now.state not in ("queued", "running"))
    assert (done.state, done.crashes) == ("succeeded", 0)


def test_outputs_wait_until_they_can_be_kept(house, s3: S3Server, caplog: pytest.LogCaptureFixture) -> None:
    job = house.submit()
    with house.at_work("train", lease_seconds=60.0):
        house.wait(job, lambda now: now.step == 4)
        with s3.frozen():
            house.open_gate()
            house.wait(job, lambda _: "outputs wait for the blob store" in caplog.text)
        done = house.wait(job, lambda now: now.state != "running")
    assert (done.state, done.attempts, done.crashes) == ("succeeded", 1, 0)
    student = house.files(job)["student.safetensors"]
    assert len(house.read(student)) == student.size_bytes
