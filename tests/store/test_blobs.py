"""Blobs: whole or not there, nowhere but in their folder, and their bytes are checked."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from store.blobs import CHUNK_BYTES, LocalBlobs, open_blobs
from store.errors import BadBlobKey, BlobCorrupt, BlobMissing, UnsupportedUrl


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobs:
    return LocalBlobs(tmp_path / "blobs")


def _files(blobs: LocalBlobs) -> list[str]:
    return sorted(path.name for path in blobs.root.rglob("*") if path.is_file())


def _put(blobs: LocalBlobs, key: str, content: bytes) -> str:
    with blobs.writer(key) as out:
        out.write(content)
        return out.commit().sha256


def test_a_file_comes_back_as_it_went_in(blobs: LocalBlobs, tmp_path: Path) -> None:
    content = os.urandom(3 * CHUNK_BYTES + 7)
    (tmp_path / "in").write_bytes(content)
    blob = blobs.put_file("jobs/job_1/1/student.safetensors", tmp_path / "in")
    assert blob == ("jobs/job_1/1/student.safetensors", hashlib.sha256(content).hexdigest(), len(content))
    assert blobs.exists(blob.key)
    blobs.fetch(blob.key, tmp_path / "deep" / "out", blob.sha256)
    assert (tmp_path / "deep" / "out").read_bytes() == content
    assert b"".join(blobs.open_range(blob.key)) == content


def test_a_file_is_hashed_while_it_is_written(blobs: LocalBlobs) -> None:
    with blobs.writer("uploads/a/1") as out:
        out.write(b"abc")
        out.write(memoryview(b"defg")[1:3])
        assert not blobs.exists("uploads/a/1")
        blob = out.commit()
    assert blob == ("uploads/a/1", hashlib.sha256(b"abcef").hexdigest(), 5)
    assert _files(blobs) == ["1"]


def test_what_is_not_committed_leaves_nothing(blobs: LocalBlobs) -> None:
    _put(blobs, "a/kept", b"old")
    with pytest.raises(TypeError), blobs.writer("a/kept") as out:
        out.write(b"new" + None)  # type: ignore[operator]  # whatever a caller does wrong
    with blobs.writer("a/other") as out:
        out.write(b"new")
    assert _files(blobs) == ["kept"]
    assert b"".join(blobs.open_range("a/kept")) == b"old"


_WRITER = """
import sys
from pathlib import Path
from store.blobs import LocalBlobs
with LocalBlobs(Path(sys.argv[1])).writer("a/b") as out:
    out.write(b"x" * 5_000_000)
    print("written", flush=True)
    sys.stdin.read()
    out.commit()
"""


def test_a_writer_that_is_killed_leaves_nothing_at_the_key(blobs: LocalBlobs) -> None:
    _put(blobs, "a/b", b"old")
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(blobs.root)],
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


def test_ranges(blobs: LocalBlobs) -> None:
    content = os.urandom(2 * CHUNK_BYTES + 10)
    _put(blobs, "a", content)
    for start, end in [
        (0, 1),
        (5, 5),
        (9, 3),
        (CHUNK_BYTES - 1, CHUNK_BYTES + 1),
        (3, None),
        (0, 10**9),
        (10**9, None),
    ]:
        assert b"".join(blobs.open_range("a", start, end)) == content[start:end], (start, end)


def test_a_file_with_other_bytes_is_not_fetched(blobs: LocalBlobs, tmp_path: Path) -> None:
    sha256 = _put(blobs, "a", b"good")
    (blobs.root / "a").write_bytes(b"evil")
    with pytest.raises(BlobCorrupt, match=sha256):
        blobs.fetch("a", tmp_path / "out" / "a", sha256)
    assert list((tmp_path / "out").iterdir()) == []


def test_what_is_missing_is_said_at_once(blobs: LocalBlobs, tmp_path: Path) -> None:
    _put(blobs, "folder/a", b"")
    for key in ("none", "folder"):
        with pytest.raises(BlobMissing, match=key):
            blobs.open_range(key)
        with pytest.raises(BlobMissing, match=key):
            blobs.fetch(key, tmp_path / "out", "0" * 64)
        assert not blobs.exists(key)


def test_deleting_twice_is_deleting(blobs: LocalBlobs) -> None:
    _put(blobs, "a/b", b"x")
    blobs.delete("a/b")
    blobs.delete("a/b")
    assert not blobs.exists("a/b")


def test_listing_by_folder(blobs: LocalBlobs) -> None:
    assert list(blobs.list("")) == []
    for key in ("a/2", "a/1", "ab/3", "a/c/4"):
        _put(blobs, key, b"x")
    with blobs.writer("a/half"):
        assert list(blobs.list("a")) == list(blobs.list("a/")) == ["a/1", "a/2", "a/c/4"]
    assert list(blobs.list("")) == ["a/1", "a/2", "a/c/4", "ab/3"]


@pytest.mark.parametrize(
    "key",
    ["", "/", "/etc/passwd", "..", "a/../b", "a/..", "./a", "a//b", "a/", ".hidden", "a/.writing-x", "a\0", "a\n", "é",
     "a b", "a\\b", "x" * 129, "/".join(["x" * 100] * 6)],
)  # fmt: skip
def test_keys_that_could_leave_the_folder_are_refused(blobs: LocalBlobs, tmp_path: Path, key: str) -> None:
    (tmp_path / "in").write_bytes(b"x")
    with pytest.raises(BadBlobKey, match="letters, digits"):
        blobs.put_file(key, tmp_path / "in")
    for touch in (blobs.delete, blobs.exists, blobs.open_range):
        with pytest.raises(BadBlobKey):
            touch(key)
    assert not blobs.root.exists()


def test_a_store_is_opened_by_its_address(tmp_path: Path) -> None:
    folder = tmp_path / "100% é #1"
    store = open_blobs(folder.as_uri())
    (tmp_path / "in").write_bytes(b"x")
    store.put_file("a", tmp_path / "in")
    assert (folder / "a").read_bytes() == b"x"


@pytest.mark.parametrize("url", ["", "/data", "s3://bucket", "file://elsewhere/data", "file:"])
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(UnsupportedUrl, match="file:///path"):
        open_blobs(url)
