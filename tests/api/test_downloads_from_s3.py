"""Files in S3: a large one is fetched from there, by an address that opens it alone; others come from the service."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import store.blobs.s3 as s3_blobs
from api.downloads import LINK_FROM_BYTES
from store.settings import Settings

Refusal = Callable[..., dict[str, Any]]
LARGE = os.urandom(LINK_FROM_BYTES)
SMALL = LARGE[1:]


@pytest.fixture(scope="module")
def on_s3(serve: Callable[..., Any], s3: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder: Path = tmp_path_factory.mktemp("on-s3")
    with pytest.MonkeyPatch.context() as patch:
        for patience in ("PATIENCE_SECONDS", "PROBE_SECONDS"):
            patch.setattr(s3_blobs, patience, 0.2)
        with serve(Settings(data_dir=folder, blobs_url=s3.url("downloads"))) as service:
            yield service


@pytest.fixture(scope="module")
def folder(on_s3: Any) -> str:
    """Where the files of a finished job are."""
    id_ = on_s3.submit()["id"]
    lease = on_s3.claim()
    on_s3.succeed(lease, [on_s3.file(lease, "large", LARGE), on_s3.file(lease, "small", SMALL)])
    return f"/v1/jobs/{id_}/artifacts"


def test_a_large_file_is_led_to_and_our_key_stays_here(on_s3: Any, s3: Any, folder: str) -> None:
    asked = on_s3.client.get(f"{folder}/large", headers={"Range": "bytes=5-9"})
    assert (asked.status_code, asked.content) == (307, b"")
    assert asked.headers["Location"].startswith(s3.endpoint)
    assert asked.headers["Cache-Control"] == "no-store"
    got = on_s3.client.get(f"{folder}/large", headers={"Range": "bytes=5-9"}, follow_redirects=True)
    assert (got.status_code, got.content) == (206, LARGE[5:10])
    assert "Authorization" not in got.request.headers
    assert httpx.get(asked.headers["Location"]).content == LARGE


def test_a_small_one_comes_at_once(on_s3: Any, folder: str) -> None:
    assert on_s3.client.get(f"{folder}/small").content == SMALL


def test_what_is_asked_by_our_entity_tag_is_answered_here(on_s3: Any, folder: str) -> None:
    head = on_s3.client.head(f"{folder}/large")
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(LINK_FROM_BYTES))
    etag = head.headers["ETag"]
    for headers, status in (
        ({"If-None-Match": etag}, 304),
        ({"If-Match": '"other"'}, 412),
        ({"If-Range": etag, "Range": "bytes=0-0"}, 206),
    ):
        assert on_s3.client.get(f"{folder}/large", headers=headers).status_code == status


def test_nobody_is_led_to_what_is_gone(on_s3: Any, folder: str, refusal: Refusal) -> None:
    (key,) = (key for key in on_s3.blobs.list("jobs") if key.endswith("/large"))
    on_s3.blobs.delete(key)
    assert refusal(on_s3.client.get(f"{folder}/large"), 410, "gone")["code"] == "blob.missing"


def test_a_store_that_is_away_is_told_as_such(on_s3: Any, s3: Any, folder: str, refusal: Refusal) -> None:
    with s3.frozen():
        problem = refusal(on_s3.client.get(f"{folder}/small"), 503, "unavailable")
        assert problem["code"] == "blob.unusable"
        answer = on_s3.client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["parts"]["blobs"].startswith("away")
