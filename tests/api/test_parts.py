"""Uploads in parts over HTTP: in any order, each part once, whole or not at all, and nobody else's."""

import base64
import hashlib
import os
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from store.settings import Settings

Refusal = Callable[..., dict[str, Any]]
PART = 2**16
CONTENT = os.urandom(2 * PART + 1000)
CHUNKS = [CONTENT[start : start + PART] for start in range(0, len(CONTENT), PART)]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def digest_of(content: bytes) -> dict[str, str]:
    return {"Content-Digest": f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"}


def create(service: Any, **fields: Any) -> dict[str, Any]:
    body = {"size_bytes": len(CONTENT), "part_bytes": PART} | fields
    answer = service.client.post("/v1/uploads", json=body)
    assert answer.status_code in (200, 201), answer.text
    assert answer.headers["Location"] == f"/v1/uploads/{answer.json()['id']}"
    return dict(answer.json())


def put(service: Any, upload: dict[str, Any], number: int, content: bytes) -> httpx.Response:
    path = f"/v1/uploads/{upload['id']}/parts/{number}"
    answer: httpx.Response = service.client.put(path, content=content, headers=digest_of(content))
    return answer


def complete(service: Any, upload: dict[str, Any], content: bytes = CONTENT) -> httpx.Response:
    path = f"/v1/uploads/{upload['id']}/complete"
    answer: httpx.Response = service.client.post(path, json={"sha256": sha256(content)})
    return answer


def blobs_of(service: Any, upload: dict[str, Any]) -> list[str]:
    return list(service.blobs.list(f"uploads/{upload['id']}"))


def test_parts_in_any_order_become_the_content_of_a_dataset(either: Any, refusal: Refusal) -> None:
    upload = create(either)
    assert (upload["state"], upload["num_parts"], upload["sha256"]) == ("open", 3, None)
    for number in (3, 1, 2):
        part = put(either, upload, number, CHUNKS[number - 1]).json()
        assert (part["number"], part["sha256"]) == (number, sha256(CHUNKS[number - 1]))
    listed = either.client.get(f"/v1/uploads/{upload['id']}/parts").json()["data"]
    assert [(part["number"], part["size_bytes"]) for part in listed] == [(1, PART), (2, PART), (3, 1000)]
    whole = complete(either, upload).json()
    assert (whole["state"], whole["sha256"]) == ("complete", sha256(CONTENT))
    assert complete(either, upload).json() == whole
    dataset = either.create("dataset")["id"]
    unknown = refusal(either.client.post(f"/v1/datasets/{dataset}/content", json={"upload": "up_none"}), 422)
    assert (unknown["code"], unknown["where"], unknown["value"]) == ("upload.unknown", "upload", "up_none")
    answer = either.client.post(f"/v1/datasets/{dataset}/content", json={"upload": upload["id"]})
    assert (answer.status_code, answer.headers["Location"]) == (202, f"/v1/datasets/{dataset}")
    assert (answer.json()["state"], answer.json()["upload_sha256"]) == ("pending", sha256(CONTENT))
    assert either.claim().job.dataset_id == dataset
    assert upload["id"] in [one["id"] for one in either.client.get("/v1/uploads").json()["data"]]


def test_a_part_that_arrived_is_not_read_again(service: Any) -> None:
    upload = create(service)
    first = put(service, upload, 1, CHUNKS[0]).json()
    before = blobs_of(service, upload)
    path = f"/v1/uploads/{upload['id']}/parts/1"
    # Of a body that nobody reads it makes no difference what it is.
    headers = digest_of(CHUNKS[0])
    assert service.client.put(path, content=b"unread", headers=headers).json() == first
    assert service.client.put(path, content=CHUNKS[0]).json() == first, "found out by reading it"
    assert blobs_of(service, upload) == before
    assert put(service, upload, 1, CHUNKS[1]).json()["sha256"] == sha256(CHUNKS[1])
    assert len(blobs_of(service, upload)) == 1


def test_content_that_is_here_need_not_be_sent(service: Any, refusal: Refusal) -> None:
    content = os.urandom(PART)
    path = f"/v1/blobs/{sha256(content)}"
    assert service.client.head(path).status_code == 404
    begun = create(service, size_bytes=PART, sha256=sha256(content))
    assert create(service, size_bytes=PART, sha256=sha256(content))["id"] == begun["id"]
    assert service.client.head(path).status_code == 404, "it is only begun"
    put(service, begun, 1, content)
    complete(service, begun, content)
    here = service.client.head(path)
    assert (here.status_code, here.content) == (200, b"")
    assert service.client.get(path).json()["id"] == begun["id"]
    assert here.headers["Content-Location"] == f"/v1/uploads/{begun['id']}"
    again = create(service, size_bytes=PART, sha256=sha256(content))
    assert (again["id"], again["state"]) == (begun["id"], "complete")
    with service.client_of(service.key_of_another_project()) as stranger:
        assert stranger.head(path).status_code == 404
        theirs = stranger.post("/v1/uploads", json={"size_bytes": PART, "sha256": sha256(content)})
        assert theirs.status_code == 201
        for ask in (
            stranger.get(f"/v1/uploads/{begun['id']}"),
            stranger.get(f"/v1/uploads/{begun['id']}/parts"),
            stranger.put(f"/v1/uploads/{begun['id']}/parts/1", content=content),
            stranger.post(f"/v1/uploads/{begun['id']}/complete", json={"sha256": sha256(content)}),
            stranger.delete(f"/v1/uploads/{begun['id']}"),
        ):
            refusal(ask, 404, "not-found")


def test_what_is_aborted_leaves_nothing(service: Any, refusal: Refusal) -> None:
    upload = create(service)
    put(service, upload, 2, CHUNKS[1])
    assert service.client.delete(f"/v1/uploads/{upload['id']}").status_code == 204
    assert blobs_of(service, upload) == []
    refusal(put(service, upload, 1, CHUNKS[0]), 404, "not-found")


def test_the_whole_must_be_there_and_be_what_it_is_said_to_be(service: Any, refusal: Refusal) -> None:
    content = CONTENT[::-1]
    first, second, third = content[:PART], content[PART : 2 * PART], content[2 * PART :]
    upload = create(service, sha256=sha256(content))
    put(service, upload, 2, second)
    problem = refusal(complete(service, upload, content), 409, "conflict")
    assert (problem["code"], problem["message"]) == (
        "upload.parts_missing",
        "2 of 3 parts are missing: 1, 3.",
    )
    dataset = service.create("dataset")["id"]
    taken = service.client.post(f"/v1/datasets/{dataset}/content", json={"upload": upload["id"]})
    assert refusal(taken, 409, "conflict")["code"] == "upload.open"
    put(service, upload, 1, first)
    put(service, upload, 3, third[::-1])
    found = sha256(first + second + third[::-1])
    for said in (content, b"other"):
        problem = refusal(complete(service, upload, said), 422)
        assert (problem["code"], problem["where"]) == ("upload.whole_digest", "sha256")
        assert problem["allowed"] == [found]
    put(service, upload, 3, third)
    assert complete(service, upload, content).json()["state"] == "complete"
    assert refusal(complete(service, upload, b"other"), 422)["code"] == "upload.whole_digest"
    problem = refusal(put(service, upload, 3, third[::-1]), 409, "conflict")
    assert problem["code"] == "upload.complete"


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    ("number", "content"), [(1, CHUNKS[0][1:]), (1, CHUNKS[0] + b"x"), (3, CHUNKS[0]), (2, b"")]
)
def test_a_part_has_its_size(
    service: Any, refusal: Refusal, number: int, content: bytes, chunked: bool
) -> None:
    upload = create(service)
    path = f"/v1/uploads/{upload['id']}/parts/{number}"
    body: Any = iter([content]) if chunked else content
    answer = service.client.put(path, content=body)
    assert answer.status_code in (413, 422), answer.text
    (problem,) = answer.json()["errors"]
    assert problem["where"] == "body"
    assert problem["code"] in ("upload.part_size", "upload.too_large", "upload.empty")
    assert blobs_of(service, upload) == []
    assert service.client.get(f"/v1/uploads/{upload['id']}/parts").json()["data"] == []


def test_a_part_has_a_number_and_the_digest_that_is_told(service: Any, refusal: Refusal) -> None:
    upload = create(service)
    problem = refusal(put(service, upload, 4, b"x"), 422)
    assert (problem["code"], problem["value"], problem["allowed"]) == ("upload.part_number", 4, ["1 to 3"])
    path = f"/v1/uploads/{upload['id']}/parts/1"
    answer = service.client.put(path, content=CHUNKS[0], headers=digest_of(CHUNKS[1]))
    assert refusal(answer, 422)["code"] == "upload.digest"
    assert blobs_of(service, upload) == []


def test_no_file_is_too_large_or_in_too_many_parts(service: Any, refusal: Refusal) -> None:
    most = service.settings.max_upload_bytes
    answer = service.client.post("/v1/uploads", json={"size_bytes": most + 1})
    problem = refusal(answer, 413, "too-large")
    assert (problem["where"], problem["value"]) == ("size_bytes", most + 1)


def test_the_service_chooses_parts_that_are_not_too_many(serve: Any, tmp_path: Any, refusal: Refusal) -> None:
    with serve(Settings(data_dir=tmp_path, upload_part_bytes=2**20)) as service:
        upload = create(service, size_bytes=2**32, part_bytes=None)
        assert upload["num_parts"] <= 1000
        assert create(service, size_bytes=2**21, part_bytes=None)["part_bytes"] == 2**20
        answer = service.client.post("/v1/uploads", json={"size_bytes": 2**32, "part_bytes": 2**20})
        problem = refusal(answer, 422)
        assert (problem["code"], problem["where"]) == ("upload.part_bytes", "part_bytes")
        assert problem["allowed"][0] == f">= {-(-(2**32) // 1000)}"
