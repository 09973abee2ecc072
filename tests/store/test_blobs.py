"""Blobs of each kind: whole or not there, nowhere but in their folder, and their bytes are checked."""

import hashlib
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from store.blobs import CHUNK_BYTES, BlobStore, LocalBlobs, S3Blobs, open_blobs
from store.blobs.s3 import PART_BYTES
from store.errors import BadBlobKey, BlobCorrupt, BlobMissing, UnsupportedUrl


@pytest.fixture(params=["local", "s3"])
def blobs_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty store, of each kind."""
    if request.param == "local":
        return (tmp_path / "blobs").as_uri()
    url: str = request.getfixturevalue("s3_url")
    return url


@pytest.fixture
def blobs(blobs_url: str) -> BlobStore:
    return open_blobs(blobs_url)


def _put(blobs: BlobStore, key: str, content: bytes) -> str:
    with blobs.writer(key) as out:
        out.write(content)
        return out.commit().sha256


@pytest.mark.parametrize("size", [0, 3 * CHUNK_BYTES + 7, PART_BYTES, 2 * PART_BYTES + 1])
def test_a_file_comes_back_as_it_went_in(blobs: BlobStore, tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "in").write_bytes(content)
    blob = blobs.put_file("jobs/job_1/1/student.safetensors", tmp_path / "in")
    assert blob == ("jobs/job_1/1/student.safetensors", hashlib.sha256(content).hexdigest(), len(content))
    assert blobs.exists(blob.key)
    blobs.fetch(blob.key, tmp_path / "deep" / "out", blob.sha256)
    assert (tmp_path / "deep" / "out").read_bytes() == content
    assert b"".join(blobs.open_range(blob.key)) == content


def test_a_file_is_hashed_while_it_is_written(blobs: BlobStore) -> None:
    with blobs.writer("uploads/a/1") as out:
        out.write(b"abc")
        out.write(memoryview(b"defg")[1:3])
        assert not blobs.exists("uploads/a/1")
        blob = out.commit()
    assert blob == ("uploads/a/1", hashlib.sha256(b"abcef").hexdigest(), 5)
    assert list(blobs.list("")) == ["uploads/a/1"]


@pytest.mark.parametrize("size", [10, 3 * PART_BYTES])
def test_what_is_not_committed_leaves_nothing(blobs: BlobStore, blobs_url: str, size: int) -> None:
    _put(blobs, "a/kept", b"old")
    with suppress(RuntimeError), blobs.writer("a/kept") as out:
        out.write(bytes(size))
        raise RuntimeError("whatever goes wrong at a caller's")
    with blobs.writer("a/other") as out:
        out.write(bytes(size))
    assert list(blobs.list("")) == ["a/kept"]
    assert b"".join(blobs.open_range("a/kept")) == b"old"
    if isinstance(blobs, LocalBlobs):
        assert [path.name for path in blobs.root.rglob("*") if path.is_file()] == ["kept"]


_WRITER = """
import sys
from store.blobs import open_blobs
with open_blobs(sys.argv[1]).writer("a/b") as out:
    out.write(b"x" * 20_000_000)
    print("written", flush=True)
    sys.stdin.read()
    out.commit()
"""


def test_a_writer_that_is_killed_leaves_nothing_at_the_key(blobs: BlobStore, blobs_url: str) -> None:
    _put(blobs, "a/b", b"old")
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, blobs_url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    with writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"written\n"
        writer.kill()
    assert b"".join(blobs.open_range("a/b")) == b"old"
    assert list(blobs.list("")) == ["a/b"]


def test_ranges(blobs: BlobStore) -> None:
    content = os.urandom(PART_BYTES + 2 * CHUNK_BYTES + 10)
    _put(blobs, "a", content)
    for start, end in [
        (0, 1),
        (5, 5),
        (9, 3),
        (CHUNK_BYTES - 1, CHUNK_BYTES + 1),
        (1, PART_BYTES + 2),
        (3, None),
        (0, 10**9),
        (10**9, None),
    ]:
        assert b"".join(blobs.open_range("a", start, end)) == content[start:end], (start, end)


def test_a_file_with_other_bytes_is_not_fetched(blobs: BlobStore, tmp_path: Path) -> None:
    sha256 = _put(blobs, "a", b"good")
    _put(blobs, "a", b"evil")
    with pytest.raises(BlobCorrupt, match=sha256):
        blobs.fetch("a", tmp_path / "out" / "a", sha256)
    assert list((tmp_path / "out").iterdir()) == []


def test_what_is_missing_is_said_at_once(blobs: BlobStore, tmp_path: Path) -> None:
    _put(blobs, "folder/a", b"")
    for key in ("none", "folder"):
        with pytest.raises(BlobMissing, match=key):
            blobs.open_range(key)
        with pytest.raises(BlobMissing, match=key):
            blobs.fetch(key, tmp_path / "out", "0" * 64)
        assert not blobs.exists(key)


def test_deleting_twice_is_deleting(blobs: BlobStore) -> None:
    _put(blobs, "a/b", b"x")
    blobs.delete("a/b")
    blobs.delete("a/b")
    assert not blobs.exists("a/b")


def test_listing_by_folder(blobs: BlobStore) -> None:
    assert list(blobs.list("")) == list(blobs.list("none")) == []
    for key in ("a/2", "a/1", "ab/3", "a/c/4"):
        _put(blobs, key, b"x")
    with blobs.writer("a/half"):
        assert sorted(blobs.list("a")) == sorted(blobs.list("a/")) == ["a/1", "a/2", "a/c/4"]
    assert sorted(blobs.list("")) == ["a/1", "a/2", "a/c/4", "ab/3"]


def test_listing_by_age(blobs: BlobStore) -> None:
    _put(blobs, "a/old", b"x")
    assert list(blobs.list_older(time.time() + 3600)) == ["a/old"]
    assert list(blobs.list_older(time.time() - 3600)) == []


def test_a_check_leaves_nothing(blobs: BlobStore) -> None:
    blobs.check()
    assert list(blobs.list("")) == []


def test_a_link_opens_one_file_for_a_while_and_without_a_key(blobs: BlobStore) -> None:
    _put(blobs, "a/b", b"content")
    link = blobs.link("a/b", 60)
    if isinstance(blobs, LocalBlobs):
        assert link is None
        return
    assert link is not None
    part = httpx.get(link, headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, b"nte")
    assert httpx.get(link.replace("/a/b?", "/a/c?")).status_code == 403
    assert httpx.put(link, content=b"other").status_code == 403
    assert httpx.get(link.partition("?")[0]).status_code == 403
    assert b"".join(blobs.open_range("a/b")) == b"content"


@pytest.mark.parametrize(
    "key",
    ["", "/", "/etc/passwd", "..", "a/../b", "a/..", "./a", "a//b", "a/", ".hidden", "a/.writing-x", "a\0", "a\n", "é",
     "a b", "a\\b", "x" * 129, "/".join(["x" * 100] * 6)],
)  # fmt: skip
def test_keys_that_could_leave_the_folder_are_refused(blobs: BlobStore, tmp_path: Path, key: str) -> None:
    (tmp_path / "in").write_bytes(b"x")
    with pytest.raises(BadBlobKey, match="letters, digits"):
        blobs.put_file(key, tmp_path / "in")
    for touch in (blobs.delete, blobs.exists, blobs.open_range):
        with pytest.raises(BadBlobKey):
            touch(key)
    assert list(blobs.list("")) == []


def test_a_store_is_opened_by_its_address(tmp_path: Path) -> None:
    folder = tmp_path / "100% é #1"
    store = open_blobs(folder.as_uri())
    (tmp_path / "in").write_bytes(b"x")
    store.put_file("a", tmp_path / "in")
    assert (folder / "a").read_bytes() == b"x"


@pytest.mark.parametrize(
    "url",
    ["", "/data", "file://elsewhere/data", "file:", "gs://bucket", "s3:bucket", "s3:///prefix",
     "s3://key:secret@bucket", "s3://bucket?secret=x"],
)  # fmt: skip
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(UnsupportedUrl, match=r"s3://bucket/prefix"):
        open_blobs(url)


def test_a_prefix_is_a_store_of_its_own(s3_url: str) -> None:
    inner = open_blobs(s3_url.replace("?", "/inner?"))
    assert isinstance(inner, S3Blobs)
    _put(inner, "a", b"x")
    assert list(open_blobs(s3_url).list("")) == ["inner/a"]
    assert list(inner.list("")) == ["a"]
