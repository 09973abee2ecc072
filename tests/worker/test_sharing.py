"""What one machine's job had its teacher say, a job on another machine is given: real children, real stores."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from plugins.fleet import FILES, PATIENCE_SECONDS, Fleet, verified_inputs
from plugins.s3 import S3Server

import store.blobs.s3 as s3_blobs
from store import shared_answers
from store.blobs import Blob, LocalBlobs
from store.models import DEFAULT_PROJECT
from store.projects import create_project
from worker.sharing import Fetching
from worker.workspace import Workspace

one_ground = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def blobs_url(request: pytest.FixtureRequest) -> str:
    """In the house's own folder; in a bucket where the database is on a server too."""
    on_a_server = "postgres" in request.node.name
    return str(request.getfixturevalue("s3_url")) if on_a_server else ""


@pytest.fixture
def fleet(house, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return Fleet(house, verified_inputs(tmp_path))


def test_the_second_machine_s_job_does_not_ask_the_teacher_again(fleet: Fleet) -> None:
    first = fleet.submit()
    assert fleet.work("one", first) == {"local": 0, "shared": 0, "computed": FILES}
    second = fleet.submit()
    assert fleet.work("two", second, warm_children=True) == {"local": 0, "shared": FILES, "computed": 0}
    third = fleet.submit()
    assert fleet.work("two", third) == {"local": FILES, "shared": 0, "computed": 0}
    alone = fleet.submit()
    assert fleet.work("three", alone, share_answers="off") == {"local": 0, "shared": 0, "computed": FILES}
    assert len({fleet.student(job) for job in (first, second, third, alone)}) == 1
    said = [event.message for event in fleet.house.events(second) if event.type == "note"]
    assert f"{FILES} files of it from another worker" in said[0]
    assert f"{FILES} came from another worker, 0 were computed" in said[-1]
    assert set(fleet.house.blobs.list("answers")) == {row.blob_key for row in fleet.rows()}


def test_what_is_damaged_is_computed_again_and_put_anew(fleet: Fleet) -> None:
    first = fleet.submit()
    fleet.work("one", first)
    damaged, gone, _ = (row for row in fleet.rows() if row.name.startswith("signs"))
    fleet.house.put(damaged.blob_key, bytes(damaged.size_bytes))
    fleet.house.blobs.delete(gone.blob_key)
    second = fleet.submit()
    assert fleet.work("two", second)["computed"] >= 2
    assert fleet.student(second) == fleet.student(first)
    now = {row.name: row for row in fleet.rows()}
    for old in (damaged, gone):
        assert now[old.name].sha256 == old.sha256, "the same was computed, on the same kind of machine"
        assert now[old.name].blob_key != old.blob_key
        assert fleet.house.blobs.exists(now[old.name].blob_key)
    assert not fleet.house.blobs.exists(damaged.blob_key)


@one_ground
def test_another_project_is_given_nothing(fleet: Fleet) -> None:
    fleet.work("one", fleet.submit())
    other = create_project(fleet.house.db, "other").id
    job = fleet.submit(other)
    assert fleet.work("two", job) == {"local": 0, "shared": 0, "computed": FILES}
    mine, theirs = fleet.rows(), fleet.rows(other)
    assert {row.name for row in mine} == {row.name for row in theirs}, "the same answers, found by other keys"
    assert not {row.blob_key for row in mine} & {row.blob_key for row in theirs}


KILLED = """
import os, signal, sys
from pathlib import Path
from store import shared_answers
from store.blobs import LocalWriter
from store.settings import Settings
from worker.workshop import Workshop

def killed(*_):
    os.kill(os.getpid(), signal.SIGKILL)

where = sys.argv[1]
setattr(*{"half-written": (LocalWriter, "commit"), "without its row": (shared_answers, "add")}[where], killed)
workshop = Workshop.open(Settings())
(name,) = (path.name for path in (Path(sys.argv[2]) / "teacher-cache" / "g").iterdir())
workshop.sharing.put("prj_default", "g", [name])
signal.pause()
"""


@pytest.mark.parametrize("where", ["half-written", "without its row"])
def test_of_a_put_that_was_killed_nothing_stays(fleet: Fleet, where: str) -> None:
    """On S3 what is half-written is the server's to forget; the first then ends as the second does."""
    house = fleet.house
    on_s3 = house.settings.blobs_url.startswith("s3:")
    cache = house.folder / "one" / "teacher-cache" / "g"
    cache.mkdir(parents=True)
    (cache / f"signs-{'a' * 40}").write_bytes(b"answers" * 1000)
    before = set(house.blobs.list(""))
    settings = house.settings.model_copy(
        update={"workspace_dir": house.folder / "one", "share_answers": "on"}
    )
    environment = {
        f"ABDISTILL_{name.upper()}": str(value)
        for name, value in settings.model_dump(mode="json").items()
        if value is not None
    }
    script = (
        KILLED.replace("LocalWriter", "S3Writer").replace("store.blobs", "store.blobs.s3")
        if on_s3
        else KILLED
    )
    died = subprocess.run(
        [sys.executable, "-c", script, where, str(house.folder / "one")],
        env=os.environ | environment,
        timeout=60,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL
    half = [] if on_s3 else list((house.settings.data_dir / "blobs").rglob(".writing-*"))
    left = set(house.blobs.list("")) - before
    assert (len(left), len(half)) == ((0, 0 if on_s3 else 1) if where == "half-written" else (1, 0))
    time.sleep(1.1)  # a bucket tells when a file was written to the second
    assert fleet.clean().orphans == len(left)
    assert set(house.blobs.list("")) == before
    assert not list(house.settings.data_dir.rglob(".writing-*"))


@pytest.fixture
def offer(fleet: Fleet) -> Iterator[tuple[Fetching, Workspace, list[str]]]:
    """Three files that a workspace may have fetched, the last of them damaged."""
    house = fleet.house
    names = [f"logits-{number:040x}" for number in range(3)]
    for name in names:
        key = shared_answers.new_key(DEFAULT_PROJECT, "g")
        sha256 = house.put(key, name.encode() * 100_000)
        shared_answers.add(house.db, DEFAULT_PROJECT, "g", name, Blob(key, sha256, 4_700_000))
    house.put(key, b"damaged")
    with fleet.machine("one") as workshop:
        workspace = workshop.workspaces.create("attempt")
        yield workshop.sharing.fetching(DEFAULT_PROJECT, "g", workspace), workspace, names


def listed(workspace: Workspace) -> list[str]:
    return workspace.shared_answers.read_text().split()


def test_what_is_asked_for_and_offered_comes_and_leaves_the_list(fleet: Fleet, offer: Any) -> None:
    fetching, workspace, names = offer
    with fetching:
        assert listed(workspace) == names
        fetching.fetch(["../../etc/passwd", names[2], "signs-unknown", names[1], names[1]])
        fleet.wait_for(lambda: listed(workspace) == names[:1])
    (here,) = workspace.teacher_cache.iterdir()
    assert here.read_bytes() == names[1].encode() * 100_000
    assert here.stat().st_mode & 0o777 == 0o444
    assert [row.name for row in shared_answers.find(fleet.house.db, DEFAULT_PROJECT, "g")] == names[:2]
    with fleet.machine("one") as workshop:  # another worker on this machine has it without asking
        workshop.answers.lend("g", workspace.temporary)
    assert [path.name for path in workspace.temporary.iterdir()] == [names[1]]


@one_ground
def test_a_link_in_the_folder_s_place_is_not_followed(fleet: Fleet, offer: Any, tmp_path: Path) -> None:
    fetching, workspace, names = offer
    (tmp_path / "elsewhere").mkdir()
    with fetching:
        workspace.teacher_cache.rmdir()
        workspace.teacher_cache.symlink_to(tmp_path / "elsewhere")
        fetching.fetch(names)
        fleet.wait_for(lambda: listed(workspace) == [])
    assert list((tmp_path / "elsewhere").iterdir()) == []


@one_ground
def test_a_transfer_that_nobody_waits_for_ends(
    fleet: Fleet, offer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetching, workspace, names = offer
    begun = Event()
    original = LocalBlobs.open_range

    def endless(*arguments: Any) -> Iterator[bytes]:
        (first, *_) = original(*arguments)
        while True:
            begun.set()
            yield first
            time.sleep(0.01)

    monkeypatch.setattr(LocalBlobs, "open_range", endless)
    with fetching:
        fetching.fetch(names)
        assert begun.wait(PATIENCE_SECONDS)
    assert "answers fetcher" not in {thread.name for thread in threading.enumerate()}
    assert list(workspace.fetched.iterdir()) == []
    assert len(shared_answers.find(fleet.house.db, DEFAULT_PROJECT, "g")) == 3


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_a_store_that_is_away_is_not_waited_for_twice(
    fleet: Fleet, s3: S3Server, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_blobs, "PATIENCE_SECONDS", 0.1)
    fetching, workspace, names = request.getfixturevalue("offer")
    with fetching, s3.frozen():
        fetching.fetch(names)
        fleet.wait_for(lambda: listed(workspace) == [])
    assert list(workspace.teacher_cache.iterdir()) == []
    assert len(shared_answers.find(fleet.house.db, DEFAULT_PROJECT, "g")) == 3, "it may be back soon"


@one_ground
def test_two_that_made_the_same_put_it_once_and_what_is_no_answer_not_at_all(fleet: Fleet) -> None:
    names = [f"signs-{number:040x}" for number in range(20)]
    with fleet.machine("one") as one, fleet.machine("two") as two:
        for workshop in (one, two):
            folder = workshop.workspaces.create("attempt").teacher_cache
            for name in (*names, "signs-short", f"{names[0]}.more"):
                (folder / name).write_bytes(name.encode() * 1000)
            workshop.sharing.put(DEFAULT_PROJECT, "g", workshop.answers.adopt("g", folder))
        rows = partial(shared_answers.find, fleet.house.db, DEFAULT_PROJECT, "g")
        fleet.wait_for(lambda: len(rows()) == len(names))
    assert [row.name for row in rows()] == names
    assert set(fleet.house.blobs.list("answers")) == {row.blob_key for row in rows()}


@one_ground
def test_who_does_not_share_offers_and_puts_nothing(fleet: Fleet, offer: Any) -> None:
    with fleet.machine("three", share_answers="auto") as workshop:
        workspace = workshop.workspaces.create("attempt")
        with workshop.sharing.fetching(DEFAULT_PROJECT, "g", workspace):
            assert not workspace.shared_answers.exists()
