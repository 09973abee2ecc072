"""Content over HTTP: there as a whole, checked, once; or not at all."""

import base64
import hashlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from abcore.specs.refusals import Problem
from store import datasets, leases
from store.models import DEFAULT_PROJECT

Refusal = Callable[..., dict[str, Any]]
DIGEST = "header.Content-Digest"


def digest_of(content: bytes) -> dict[str, str]:
    return {"Content-Digest": f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"}


def files(service: Any) -> set[Path]:
    """All of the blob store, half-written files too."""
    return {path for path in (service.settings.data_dir / "blobs").rglob("*") if path.is_file()}


@pytest.fixture
def kept(service: Any) -> Any:
    """Asserts that the blob store is as it was before."""
    before = files(service)

    def unchanged() -> bool:
        return files(service) == before

    return unchanged


@pytest.mark.parametrize("kind", ["teacher", "dataset"])
@pytest.mark.parametrize("size", [1, 9 * 2**20 + 1])
def test_content_arrives_whole_and_waits_for_verification(service: Any, kind: str, size: int) -> None:
    content = os.urandom(size)
    id_ = service.create(kind)["id"]
    answer = service.client.put(f"/v1/{kind}s/{id_}/content", content=content, headers=digest_of(content))
    assert answer.status_code == 202
    shown = answer.json()
    assert (shown["object"], shown["state"]) == (kind, "pending")
    assert "verification" in shown["state_detail"]
    assert (shown["upload_sha256"], shown["upload_bytes"]) == (hashlib.sha256(content).hexdigest(), size)
    lease = service.claim()
    assert lease.job.kind == f"verify_{kind}"
    (key,) = service.blobs.list(f"uploads/{id_}")
    assert b"".join(service.blobs.open_range(key, 0, size)) == content


def test_verified_and_refused_content_say_so(service: Any) -> None:
    teacher = service.client.get(f"/v1/teachers/{service.ready('teacher')}").json()
    assert teacher["state"] == "ready"
    assert teacher["report"]["format"] == "torch"
    assert teacher["created_at"].endswith("Z")
    id_ = service.create("dataset")["id"]
    service.client.put(f"/v1/datasets/{id_}/content", content=b"garbage")
    service.reject(
        Problem(code="archive.format", message="no known format", where="archive", hint="Send .npz.")
    )
    dataset = service.client.get(f"/v1/datasets/{id_}").json()
    assert dataset["state"] == "invalid"
    assert dataset["problems"][0]["code"] == "archive.format"
    assert dataset["problems"][0]["hint"] == "Send .npz."


@pytest.mark.parametrize(
    ("headers", "where", "code"),
    [
        ({"X-Content-SHA256": "0" * 64}, "header.X-Content-SHA256", "upload.digest"),
        (digest_of(b"other"), DIGEST, "upload.digest"),
        ({"Content-Digest": "md5=:AAAA:"}, DIGEST, "upload.digest"),
        ({"Content-Digest": "sha-256=:AAAA:"}, DIGEST, "upload.digest"),
        ({"X-Content-SHA256": "not hex"}, "header.X-Content-SHA256", "upload.digest"),
    ],
)
def test_a_wrong_digest_leaves_nothing(
    service: Any, kept: Any, refusal: Refusal, headers: dict[str, str], where: str, code: str
) -> None:
    id_ = service.create("dataset")["id"]
    answer = service.client.put(f"/v1/datasets/{id_}/content", content=b"content", headers=headers)
    problem = refusal(answer, 422)
    assert (problem["where"], problem["code"]) == (where, code)
    assert problem["value"]
    assert problem["allowed"]
    assert kept()
    assert service.client.get(f"/v1/datasets/{id_}").json()["upload_sha256"] is None


def test_an_empty_body_is_refused(service: Any, kept: Any, refusal: Refusal) -> None:
    id_ = service.create("dataset")["id"]
    problem = refusal(service.client.put(f"/v1/datasets/{id_}/content", content=b""), 422)
    assert (problem["where"], problem["code"]) == ("body", "upload.empty")
    assert kept()


def raw_request(service: Any, head: str, body: bytes) -> socket.socket:
    """A connection on which the beginning of a request was sent."""
    connection = socket.create_connection(("127.0.0.1", service.port), timeout=60)
    lines = [head, "Host: x", f"Authorization: Bearer {service.key}"]
    connection.sendall("\r\n".join(lines).encode() + b"\r\n" + body)
    return connection


def test_a_body_of_untold_length_is_refused(service: Any) -> None:
    id_ = service.create("dataset")["id"]
    with raw_request(service, f"PUT /v1/datasets/{id_}/content HTTP/1.1", b"\r\n") as connection:
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 411 ")
    assert b"header.Content-Length" in answer


@pytest.mark.parametrize("length", ["Content-Length: 9000000", "Transfer-Encoding: chunked"])
def test_an_upload_that_is_cut_off_leaves_nothing(
    service: Any, kept: Any, wait_for: Callable[..., Any], length: str
) -> None:
    id_ = service.create("teacher")["id"]
    sent = os.urandom(5_000_000)
    chunk = b"%x\r\n%s\r\n" % (len(sent), sent) if "chunked" in length else sent
    head = f"PUT /v1/teachers/{id_}/content HTTP/1.1\r\n{length}"
    with raw_request(service, head, b"\r\n" + chunk):
        wait_for(lambda: not kept())  # it has begun to be written
    wait_for(kept)
    assert service.client.get(f"/v1/teachers/{id_}").json()["upload_sha256"] is None


@pytest.mark.parametrize("chunked", [False, True])
def test_more_than_is_accepted_is_refused_before_it_is_all_there(
    service: Any, kept: Any, refusal: Refusal, chunked: bool
) -> None:
    most = service.settings.max_upload_bytes
    id_ = service.create("dataset")["id"]
    body = b"x" * (most + 1)
    content: Any = (body[i : i + 2**20] for i in range(0, len(body), 2**20)) if chunked else body
    try:
        answer = service.client.put(f"/v1/datasets/{id_}/content", content=content)
    except httpx.WriteError:
        pass  # the service had answered and hung up before the rest was sent
    else:
        problem = refusal(answer, 413, "too-large")
        assert (problem["where"], problem["allowed"]) == ("body", [f"<= {most} bytes"])
        assert problem["value"] > most
    assert kept()


def test_the_same_content_may_come_again_and_other_content_may_not(service: Any, refusal: Refusal) -> None:
    id_ = service.create("dataset")["id"]
    path = f"/v1/datasets/{id_}/content"
    first = service.client.put(path, content=b"one")
    before = files(service)
    for headers in ({}, digest_of(b"one")):
        assert service.client.put(path, content=b"one", headers=headers).json() == first.json()
    for headers in ({}, digest_of(b"two")):
        problem = refusal(service.client.put(path, content=b"two", headers=headers), 409, "already-uploaded")
        assert problem["where"] == "body"
    assert files(service) == before
    service.claim()  # one verification, not several
    assert leases.claim(service.db, "tests", 60.0) is None


def test_of_two_contents_at_once_one_wins_and_the_other_leaves_nothing(service: Any) -> None:
    id_ = service.create("dataset")["id"]
    path = f"/v1/datasets/{id_}/content"
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda n: service.client.put(path, content=b"%d" % n), range(4)))
    assert sorted(answer.status_code for answer in answers) == [202, 409, 409, 409]
    assert len(list(service.blobs.list(f"uploads/{id_}"))) == 1


def test_content_of_nothing_and_of_others_is_not_taken(service: Any, kept: Any, refusal: Refusal) -> None:
    refusal(service.client.put("/v1/datasets/dst_none/content", content=b"x"), 404, "not-found")
    id_ = service.create("dataset")["id"]
    with service.client_of(service.key_of_another_project()) as stranger:
        refusal(stranger.put(f"/v1/datasets/{id_}/content", content=b"x"), 404, "not-found")
    assert kept()


def test_deleting_takes_the_files_too(service: Any, refusal: Refusal) -> None:
    id_ = service.ready("dataset")
    job = service.submit(dataset=id_)
    problem = refusal(service.client.delete(f"/v1/datasets/{id_}"), 409, "in-use")
    assert job["id"] in problem["message"]
    service.client.post(f"/v1/jobs/{job['id']}/cancel")
    key = datasets.get(service.db, DEFAULT_PROJECT, id_).blob_key
    assert service.blobs.exists(key)
    assert service.client.delete(f"/v1/datasets/{id_}").status_code == 204
    assert not service.blobs.exists(key)
    refusal(service.client.get(f"/v1/datasets/{id_}"), 404, "not-found")
    refusal(service.client.delete(f"/v1/datasets/{id_}"), 404, "not-found")


_FULL_DISK = """
import resource, signal, sys, uvicorn
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (6 * 2**20, 6 * 2**20))
uvicorn.run("api.app:create_app", factory=True, port=int(sys.argv[1]), log_level="warning")
"""


def test_a_full_disk_is_told_as_one_and_the_service_goes_on(
    service: Any, wait_for: Callable[..., Any]
) -> None:
    """A process whose files may have 6 MiB stands for a disk that is full."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"ABDISTILL_DATA_DIR": str(service.settings.data_dir)}
    process = subprocess.Popen([sys.executable, "-c", _FULL_DISK, str(port)], env=environment)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=service.client.headers) as client:
            wait_for(lambda: _answers(client))
            id_ = service.create("dataset")["id"]
            before = files(service)
            answer = client.put(f"/v1/datasets/{id_}/content", content=b"x" * (9 * 2**20), timeout=60)
            assert answer.status_code == 507, answer.text
            assert answer.json()["errors"][0]["code"] == "upload.no_room"
            assert files(service) == before
            assert client.put(f"/v1/datasets/{id_}/content", content=b"small").status_code == 202
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


def test_a_dataset_shows_its_samples_until_it_is_deleted(service: Any, refusal: Refusal) -> None:
    id_ = service.create("dataset")["id"]
    path = f"/v1/datasets/{id_}/samples"
    refusal(service.client.get(path), 409, "not-ready")
    service.client.put(f"/v1/datasets/{id_}/content", content=b"images")
    service.accept(samples=b"a picture")
    made = files(service)
    answer = service.client.get(path)
    assert (answer.content, answer.headers["Content-Type"]) == (b"a picture", "application/octet-stream")
    assert service.client.get(path, headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304
    assert service.client.head(path).headers["Content-Length"] == "9"
    with service.client_of(service.key_of_another_project()) as stranger:
        refusal(stranger.get(path), 404, "not-found")
    assert service.client.delete(f"/v1/datasets/{id_}").status_code == 204
    refusal(service.client.get(path), 404, "not-found")
    assert {file.name for file in made - files(service)} == {"samples.png", "dataset.safetensors"}
