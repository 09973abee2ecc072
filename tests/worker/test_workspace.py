"""Folders of attempts, and the cache of their inputs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from store.blobs import LocalBlobs
from store.errors import BlobCorrupt
from worker.cache import InputCache
from worker.workspace import Workspace, Workspaces


def put(blobs: LocalBlobs, content: bytes) -> str:
    with blobs.writer(f"k/{content.decode()}") as out:
        out.write(content)
        return out.commit().sha256


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobs:
    return LocalBlobs(tmp_path / "blobs")


def test_the_least_recently_used_goes_first(tmp_path: Path, blobs: LocalBlobs) -> None:
    cache = InputCache(tmp_path / "cache", max_bytes=10)
    sums = {name: put(blobs, name * 4) for name in (b"a", b"b", b"c")}
    for number, name in enumerate((b"a", b"b", b"a", b"c")):
        cache.place(blobs, f"k/{(name * 4).decode()}", sums[name], tmp_path / str(number))
        os.utime(tmp_path / "cache" / sums[name], (number, number))
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {sums[b"a"], sums[b"c"]}
    assert (tmp_path / "1").read_bytes() == b"bbbb", "who has it keeps it"


def test_a_file_larger_than_the_cache_is_placed_all_the_same(tmp_path: Path, blobs: LocalBlobs) -> None:
    cache = InputCache(tmp_path / "cache", max_bytes=0)
    cache.place(blobs, "k/abc", put(blobs, b"abc"), tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"abc"


def test_nothing_damaged_enters_the_cache(tmp_path: Path, blobs: LocalBlobs) -> None:
    cache = InputCache(tmp_path / "cache", max_bytes=100)
    put(blobs, b"abc")
    with pytest.raises(BlobCorrupt):
        cache.place(blobs, "k/abc", "0" * 64, tmp_path / "target")
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize(
    "name",
    ["../outside", "outputs/../../outside", "outputs/link", "linked/file", "outputs", "outputs/absent"],
)
def test_a_child_cannot_point_out_of_its_workspace(tmp_path: Path, name: str) -> None:
    workspace = Workspace(tmp_path / "workspace")
    workspace.create()
    (tmp_path / "outside").write_bytes(b"secret")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"secret")
    (workspace.outputs / "link").symlink_to(tmp_path / "outside")
    (workspace.root / "linked").symlink_to(tmp_path / "folder")
    with pytest.raises(ValueError, match="not a regular file"):
        workspace.own_file(name)
    with pytest.raises(ValueError, match="not a regular file"):
        workspace.own_file(str(tmp_path / "outside"))


def test_a_file_of_its_own_is_found(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    workspace.create()
    (workspace.outputs / "result.json").touch()
    assert workspace.own_file("outputs/result.json") == workspace.outputs / "result.json"


def test_the_living_keep_their_folders_and_the_dead_do_not(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from worker.workspace import Workspaces\n"
        "(Workspaces(Path(sys.argv[1]), 'wrk_dead').mine / 'job').mkdir(); os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert (tmp_path / "wrk_dead" / "job").is_dir()
    living, me = Workspaces(tmp_path, "wrk_living"), Workspaces(tmp_path, "wrk_me")
    assert me.sweep() == ["wrk_dead"]
    assert living.mine.is_dir()
    assert me.mine.is_dir()
    living.close()
    me.close()
    assert not list(tmp_path.iterdir())
