"""Lost connections, refusals and damage, injected on real sockets between the client and the real API."""

import os
from pathlib import Path
from typing import Any

import pytest
from abdistill import Client, ConnectionFailed, IntegrityError, ServerError
from abdistill.models import Event, Job, Metric

from store import logs

BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
BROKEN = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\nConnection: close\r\n\r\noops"
SLOW_DOWN = BUSY.replace(b"503 Service Unavailable", b"429 Too Many Requests")


def test_nobody_there() -> None:
    with (
        Client("http://127.0.0.1:1", max_retries=0) as client,
        pytest.raises(
            ConnectionFailed, match=r"No service answers at http://127.0.0.1:1 .*abdistill-server up"
        ),
    ):
        client.jobs.get("job_1")


def test_a_busy_service_is_asked_again(shaky: Client, proxy: Any) -> None:
    proxy.answers.extend([BUSY, BUSY, SLOW_DOWN])
    assert shaky.teachers.list().data is not None
    assert len(proxy.heads("GET /v1/teachers")) == 4


def test_patience_ends(shaky: Client, proxy: Any) -> None:
    proxy.answers.extend([BUSY] * 5)
    with pytest.raises(ServerError) as caught:
        shaky.teachers.list()
    assert caught.value.status == 503
    assert len(proxy.requests) == 5


def test_a_fault_of_the_service_is_not_hammered(shaky: Client, proxy: Any) -> None:
    proxy.answers.append(BROKEN)
    with pytest.raises(ServerError, match="oops"):
        shaky.teachers.list()
    assert len(proxy.requests) == 1


def test_what_may_have_been_done_is_not_done_again(shaky: Client, proxy: Any) -> None:
    """A POST without an Idempotency-Key whose answer was lost."""
    before = len(shaky.datasets.list(limit=100).data)
    proxy.cut(down=[0])
    with pytest.raises(ConnectionFailed, match="was lost"):
        shaky.datasets.create("digits", "digits.npz")
    assert len(proxy.heads("POST /v1/datasets")) == 1
    assert len(shaky.datasets.list(limit=100).data) == before + 1


def test_a_job_whose_answer_was_lost_is_submitted_once(
    shaky: Client, proxy: Any, client: Client, backstage: Any, file: Path
) -> None:
    dataset = backstage.ready_dataset(client, file)
    before = {job.id for job in client.jobs.all()}
    proxy.cut(down=[0, 0])
    recipe = {"transfer": None, "finetune": {"epochs": 1, "cross_entropy_weight": 1.0, "kd_weight": 0.0}}
    job = shaky.jobs.create(
        dataset=dataset, student={"arch": "wide_resnet", "depth": 10, "width": 1}, recipe=recipe
    )
    assert len(proxy.heads("POST /v1/jobs")) == 3
    assert {job.id for job in client.jobs.all()} - before == {job.id}


def test_an_upload_that_is_cut_is_sent_again_whole(
    shaky: Client, proxy: Any, backstage: Any, file: Path
) -> None:
    created = shaky.datasets.create("digits", "digits.npz")
    proxy.cut(up=[1_000_000, 2_500_000])
    seen: list[int] = []
    shaky.datasets.upload(created.id, file, progress=lambda done, total: seen.append(done))
    lease = backstage.claim()
    assert lease.job.dataset_id == created.id
    assert seen[-1] == file.stat().st_size
    assert seen.count(seen[0]) >= 2, "it did not start again"
    assert len(proxy.heads(f"PUT /v1/datasets/{created.id}/content")) == 3


def test_a_stream_that_is_cut_again_and_again_tells_all_once(
    shaky: Client, proxy: Any, client: Client, backstage: Any, file: Path
) -> None:
    job_id = backstage.submit(client, file)
    lease = backstage.claim()
    backstage.train(lease)
    backstage.succeed(lease, b"student")
    # In the middle of messages, and so early that not one has come through.
    proxy.cut(down=[600, 2500, 700])
    told = list(shaky.jobs.follow(job_id))
    assert len(proxy.heads(f"GET /v1/jobs/{job_id}/stream")) == 4
    assert [event.seq for event in told if isinstance(event, Event)] == [
        event.seq for event in client.jobs.events(job_id).data
    ]
    figures = [(metric.name, metric.step) for metric in told if isinstance(metric, Metric)]
    assert sorted(figures) == [("eval/top1", 10), ("eval/top1", 20), ("loss", 10), ("loss", 20)]
    assert isinstance(told[-1], Job)
    assert told[-1].state == "succeeded"


def test_a_log_that_is_followed_over_broken_connections_is_whole(
    shaky: Client, proxy: Any, client: Client, backstage: Any, file: Path
) -> None:
    job_id = backstage.submit(client, file)
    lease = backstage.claim()
    lines = [f"line {number}" for number in range(40)]
    for line in lines[:20]:
        logs.append(backstage.db, lease, [f"{line}\n"])
    assert list(client.jobs.logs(job_id, tail=2)) == lines[18:20]
    # The first connection asks for what is there, the second follows; both are cut in the middle of it.
    proxy.cut(down=[500, 4000, 900, 1500])
    followed = shaky.jobs.logs(job_id, tail=5, follow=True)
    assert [next(followed) for _ in range(5)] == lines[15:20]
    for line in lines[20:]:
        logs.append(backstage.db, lease, [f"{line}\n"])
    backstage.succeed(lease, b"student")
    assert list(followed) == lines[20:]
    assert len(proxy.heads(f"GET /v1/jobs/{job_id}/stream?include=log")) >= 2


def submitted(client: Client, backstage: Any, file: Path, student: bytes) -> str:
    job_id: str = backstage.submit(client, file)
    backstage.succeed(backstage.claim(), student)
    return job_id


def test_a_download_cut_ten_times_arrives_and_asks_only_for_what_is_missing(
    shaky: Client, proxy: Any, client: Client, backstage: Any, file: Path, tmp_path: Path
) -> None:
    student = os.urandom(4_000_000)
    job_id = submitted(client, backstage, file, student)
    proxy.cut(down=[300_000] * 10)
    path = shaky.jobs.download(job_id, target=tmp_path / "student.safetensors")
    assert path.read_bytes() == student
    ranges = [
        int(line.removeprefix("Range: bytes=").removesuffix("-"))
        for head in proxy.heads(f"GET /v1/jobs/{job_id}/artifacts/student.safetensors")
        for line in head.splitlines()
        if line.startswith("Range: ")
    ]
    assert len(ranges) == 10
    assert ranges == sorted(ranges)
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


def test_a_download_goes_on_in_a_later_process(
    proxy: Any, client: Client, backstage: Any, file: Path, tmp_path: Path
) -> None:
    student = os.urandom(2_000_000)
    job_id = submitted(client, backstage, file, student)
    target = tmp_path / "out" / "student.safetensors"
    with Client(f"http://127.0.0.1:{proxy.port}", backstage.key, max_retries=0) as once:
        proxy.cut(down=[500_000])
        with pytest.raises(ConnectionFailed):
            once.jobs.download(job_id, target=target)
    assert not target.exists()
    (part,) = target.parent.iterdir()
    arrived = part.stat().st_size
    assert 0 < arrived < len(student)
    with Client(f"http://127.0.0.1:{proxy.port}", backstage.key, max_retries=0) as again:
        assert again.jobs.download(job_id, target=target).read_bytes() == student
    assert (
        f"Range: bytes={arrived}-" in proxy.heads(f"GET /v1/jobs/{job_id}/artifacts/student.safetensors")[-1]
    )
    assert list(target.parent.iterdir()) == [target]


def test_what_an_earlier_process_left_damaged_is_noticed(
    client: Client, backstage: Any, file: Path, tmp_path: Path
) -> None:
    student = os.urandom(200_000)
    job_id = submitted(client, backstage, file, student)
    sha256 = client.jobs.artifacts(job_id)[0].sha256
    target = tmp_path / "student.safetensors"
    (tmp_path / f".student.safetensors.{sha256[:16]}.part").write_bytes(b"\0" * 100_000)
    with pytest.raises(IntegrityError, match=r"Nothing was kept"):
        client.jobs.download(job_id, target=target)
    assert not target.exists()
    assert client.jobs.download(job_id, target=target).read_bytes() == student


def test_a_file_damaged_in_the_blob_store_is_not_kept(
    client: Client, backstage: Any, file: Path, tmp_path: Path
) -> None:
    student = os.urandom(200_000)
    job_id = submitted(client, backstage, file, student)
    (blob,) = (backstage.settings.data_dir / "blobs" / "jobs" / job_id).rglob("student.safetensors")
    damaged = bytearray(student)
    damaged[1000] ^= 1
    blob.write_bytes(damaged)
    with pytest.raises(IntegrityError, match=r"expected 200000 bytes"):
        client.jobs.download(job_id, target=tmp_path / "student.safetensors")
    assert list(tmp_path.glob("*student*")) == []
