"""An S3 server that is gone, refuses us, or lacks the bucket: told in one sentence, with what to do."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from plugins.s3 import USER, S3Server, environment

import store.blobs.s3 as s3_blobs
from store.blobs import BlobStore, BlobWriter, open_blobs
from store.blobs.s3 import PART_BYTES
from store.errors import BlobsUnusable


@pytest.fixture(autouse=True)
def _little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_blobs, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(s3_blobs, "PROBE_SECONDS", 0.1)


def _uses(blobs: BlobStore, folder: Path) -> Iterator[Callable[[], Any]]:
    """Each way to use a store."""

    def write(size: int) -> None:
        with blobs.writer("a") as out:
            for _ in range(4):
                out.write(bytes(size))
            out.commit()

    yield blobs.check
    yield lambda: write(10)
    yield lambda: write(PART_BYTES)
    yield lambda: b"".join(blobs.open_range("a"))
    yield lambda: blobs.fetch("a", folder / "a", "0" * 64)
    yield lambda: blobs.delete("a")
    yield lambda: blobs.exists("a")
    yield lambda: list(blobs.list(""))
    yield lambda: list(blobs.list_older(0))


def test_nobody_there(tmp_path: Path) -> None:
    with environment(USER):
        for use in _uses(open_blobs("s3://blobs?endpoint=http://127.0.0.1:1"), tmp_path):
            with pytest.raises(BlobsUnusable, match=r"s3://blobs at http://127.0.0.1:1 does not answer"):
                use()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", USER)
def test_wrong_credentials(s3_url: str, wrong: str, tmp_path: Path) -> None:
    with environment({wrong: "wrong"}):
        for use in _uses(open_blobs(s3_url), tmp_path):
            with pytest.raises(BlobsUnusable, match=r"refuses us: check AWS_ACCESS_KEY_ID"):
                use()


def test_no_such_bucket(s3: S3Server) -> None:
    blobs = open_blobs(s3.url(bucket="none"))
    for use in (blobs.check, lambda: list(blobs.list(""))):
        with pytest.raises(BlobsUnusable, match=r"refuses us|no bucket 'none'"):
            use()


def _write_on(out: BlobWriter) -> None:
    for _ in range(20):
        out.write(bytes(PART_BYTES))


@pytest.mark.slow  # the server takes 20 s to come back
def test_a_server_that_goes_while_a_file_is_written_and_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    server = S3Server(tmp_path_factory.mktemp("s3"))
    try:
        with environment(USER):
            blobs = open_blobs(server.url("x"))
            with blobs.writer("a") as out:
                out.write(bytes(PART_BYTES))
                server.stop()
                with pytest.raises(BlobsUnusable, match=r"does not answer"):
                    _write_on(out)
            server.start()
            server.wait_until_it_serves()
            assert list(blobs.list("")) == []
            with blobs.writer("a") as out:
                out.write(b"again")
                out.commit()
            assert b"".join(blobs.open_range("a")) == b"again"
    finally:
        server.stop()
