"""Files over HTTP: whole, by range, under conditions, with their sums."""

import base64
import hashlib
import os
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from store import artifacts

Refusal = Callable[..., dict[str, Any]]
CONTENT = os.urandom(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
LAST = len(CONTENT) - 1


@pytest.fixture(scope="module")
def path(running: Any) -> str:
    """Where the student of a finished job is."""
    id_ = running.submit()["id"]
    lease = running.claim()
    running.succeed(lease, [running.file(lease, "student.safetensors", CONTENT)])
    job = running.client.get(f"/v1/jobs/{id_}").json()
    assert (job["state"], job["progress"]) == ("succeeded", 1.0)
    assert job["report"]["training_seconds"] == 1.0
    (listed,) = running.client.get(f"/v1/jobs/{id_}/artifacts").json()["data"]
    assert (listed["name"], listed["sha256"], listed["size_bytes"]) == (
        "student.safetensors",
        SHA256,
        LAST + 1,
    )
    return f"/v1/jobs/{id_}/artifacts/student.safetensors"


def test_a_file_comes_whole_with_its_sums(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.content == CONTENT
    assert answer.headers["ETag"] == f'"{SHA256}"'
    assert answer.headers["Accept-Ranges"] == "bytes"
    digest = base64.b64encode(bytes.fromhex(SHA256)).decode()
    assert answer.headers["Repr-Digest"] == f"sha-256=:{digest}:"
    assert answer.headers["Content-Disposition"] == (
        "attachment; filename=\"student.safetensors\"; filename*=UTF-8''student.safetensors"
    )
    head = client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    same = ("ETag", "Content-Length", "Repr-Digest", "Content-Type", "Accept-Ranges")
    assert {name: head.headers[name] for name in same} == {name: answer.headers[name] for name in same}


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=1000-1999", 1000, 2000),
        (f"bytes={LAST}-", LAST, LAST + 1),
        ("bytes=-7", LAST - 6, LAST + 1),
        ("bytes=5-999999999", 5, LAST + 1),
        ("bytes=-999999999", 0, LAST + 1),
        ("Bytes=3-" + "9" * 40, 3, LAST + 1),
    ],
)
def test_a_range_is_what_was_asked_for(
    client: httpx.Client, path: str, asked: str, start: int, end: int
) -> None:
    for headers in ({}, {"If-Range": f'"{SHA256}"'}):
        answer = client.get(path, headers={"Range": asked, **headers})
        assert (answer.status_code, answer.content) == (206, CONTENT[start:end])
        assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/{LAST + 1}"
        assert answer.headers["Content-Length"] == str(end - start)


@pytest.mark.parametrize(
    "headers",
    [
        {"Range": "bytes=0-9", "If-Range": '"of another file"'},
        {"Range": "bytes=0-9", "If-Range": f'W/"{SHA256}"'},
        {"Range": "bytes=9-5"},
        {"Range": "bytes=-"},
        {"Range": "lines=1-2"},
        {"Range": "bytes=0-1,5-6"},
        {"Range": "bytes=" + "9" * 5000 + "-"},
        {"If-None-Match": '"of another file"'},
    ],
)
def test_a_range_that_does_not_count_brings_the_whole_file(
    client: httpx.Client, path: str, headers: dict[str, str]
) -> None:
    answer = client.get(path, headers=headers)
    assert (answer.status_code, answer.content) == (200, CONTENT)


@pytest.mark.parametrize("tags", ['"{0}"', 'W/"{0}"', '"x", "{0}"', "*"])
def test_a_file_that_is_known_is_not_sent_again(client: httpx.Client, path: str, tags: str) -> None:
    headers = {"If-None-Match": tags.format(SHA256), "Range": "bytes=0-9"}
    for method in ("GET", "HEAD"):
        answer = client.request(method, path, headers=headers)
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["ETag"] == f'"{SHA256}"'


@pytest.mark.parametrize("asked", [f"bytes={LAST + 1}-", "bytes=-0"])
def test_a_range_beyond_the_end_is_refused_with_the_size(
    client: httpx.Client, path: str, refusal: Refusal, asked: str
) -> None:
    answer = client.get(path, headers={"Range": asked})
    problem = refusal(answer, 416, "range")
    assert (problem["where"], problem["value"]) == ("header.Range", asked)
    assert problem["allowed"] == [f"bytes=0-{LAST}"]
    assert answer.headers["Content-Range"] == f"bytes */{LAST + 1}"


def test_head_has_no_ranges(client: httpx.Client, path: str) -> None:
    answer = client.head(path, headers={"Range": "bytes=0-9"})
    assert (answer.status_code, answer.headers["Content-Length"]) == (200, str(LAST + 1))
    assert "Content-Range" not in answer.headers
    assert client.head(path, headers={"Range": f"bytes={LAST + 1}-"}).status_code == 200


@pytest.mark.parametrize("tags", ['"{0}"', '"x", "{0}"', "*"])
def test_a_file_that_is_meant_is_sent(client: httpx.Client, path: str, tags: str) -> None:
    answer = client.get(path, headers={"If-Match": tags.format(SHA256), "Range": "bytes=0-9"})
    assert (answer.status_code, answer.content) == (206, CONTENT[:10])


@pytest.mark.parametrize("tags", ['"x"', 'W/"{0}"'])
def test_another_file_than_is_meant_is_not_sent(
    client: httpx.Client, path: str, refusal: Refusal, tags: str
) -> None:
    sent = tags.format(SHA256)
    answer = client.get(path, headers={"If-Match": sent})
    problem = refusal(answer, 412, "precondition")
    assert (problem["where"], problem["value"], problem["allowed"]) == (
        "header.If-Match",
        sent,
        [f'"{SHA256}"'],
    )


def test_an_empty_file_has_no_range(service: Any, refusal: Refusal) -> None:
    id_ = service.submit()["id"]
    lease = service.claim()
    service.succeed(lease, [service.file(lease, "empty", b"")])
    empty = f"/v1/jobs/{id_}/artifacts/empty"
    answer = service.client.get(empty)
    assert (answer.status_code, answer.content, answer.headers["Content-Length"]) == (200, b"", "0")
    answer = service.client.get(empty, headers={"Range": "bytes=0-"})
    assert refusal(answer, 416, "range")["allowed"] == []
    assert answer.headers["Content-Range"] == "bytes */0"


def test_a_page_is_a_file_and_does_nothing_where_it_is_shown_all_the_same(service: Any) -> None:
    id_ = service.submit()["id"]
    lease = service.claim()
    page = service.file(lease, "report.html", b"<p>report</p>", "report")
    service.succeed(lease, [page._replace(media_type="text/html; charset=utf-8")])
    answer = service.client.get(f"/v1/jobs/{id_}/artifacts/report.html")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Content-Disposition"].startswith("attachment;")
    policy = answer.headers["Content-Security-Policy"].split("; ")
    assert {"sandbox", "default-src 'none'"} <= set(policy)
    assert not [rule for rule in policy if "script" in rule or "allow" in rule]


def test_a_download_that_is_cut_ten_times_adds_up_to_the_file(client: httpx.Client, path: str) -> None:
    etag = client.head(path).headers["ETag"]
    arrived = b""
    for cut in range(11):
        headers = {"Range": f"bytes={len(arrived)}-", "If-Range": etag}
        with client.stream("GET", path, headers=headers) as answer:
            assert answer.status_code == 206
            for block in answer.iter_raw():
                arrived += block if cut == 10 else block[: 1 + cut * 1000]
                if cut < 10:
                    break  # leaving the block closes the connection under the answer
    assert hashlib.sha256(arrived).hexdigest() == SHA256


def test_a_checkpoint_is_listed_and_downloaded_while_its_job_runs(running: Any) -> None:
    id_ = running.submit()["id"]
    lease = running.claim()
    name = "checkpoint-1-step-000000010.ckpt"
    list(artifacts.add_checkpoint(running.db, lease, running.file(lease, name, CONTENT, "checkpoint")))
    assert running.client.get(f"/v1/jobs/{id_}").json()["state"] == "running"
    (listed,) = running.client.get(f"/v1/jobs/{id_}/artifacts").json()["data"]
    assert (listed["name"], listed["kind"], listed["sha256"]) == (name, "checkpoint", SHA256)
    path = f"/v1/jobs/{id_}/artifacts/{name}"
    rest = running.client.get(path, headers={"Range": "bytes=1000-", "If-Range": f'"{SHA256}"'})
    assert (rest.status_code, rest.content) == (206, CONTENT[1000:])
