"""Children that are forked from a process which has imported what they need: soon there, and no worse off for it."""

import contextlib
import logging
import os
import signal
import time
from pathlib import Path

import pytest

from leash.linux import IS_LINUX
from store.models import Job

pytestmark = [
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
    pytest.mark.skipif(not IS_LINUX, reason="there are no fork servers"),
]


def forks(shift):
    return shift._workshop.guardian._forks


def ready(shift) -> int:
    """The process that forks, once it is ready to."""
    shift.work()
    deadline = time.monotonic() + 30
    while not forks(shift)._server.ready:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return forks(shift)._server.pid


def forkers(house) -> dict[int, list[bytes]]:
    """The process of a worker's that forks, and all that it has forked; with the processor time of each."""
    pids = [
        pid for pid, command in house.living().items() if "leash.forker" in command and "-I" not in command
    ]
    return {pid: Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()[11:13] for pid in pids}


def wait_for_fork_server(house) -> None:
    """Until it has nothing more to do before there is a job."""
    deadline = time.monotonic() + 30
    before = None
    while not before or forkers(house) != before:
        assert time.monotonic() < deadline
        before = forkers(house)
        time.sleep(0.5)


def who_did(house, job: Job) -> dict[str, object]:
    note = next(event for event in house.events(job) if event.type == "note")
    return note.data["details"]


def test_children_of_all_kinds_are_forked_one_after_the_other(house) -> None:
    with house.shift("probe", warm_children=True) as shift:
        server = ready(shift)
        jobs = [house.submit() for _ in range(2)]
        house.upload_teacher(b"weights")
        shift.work()
        seen = [who_did(house, job) for job in jobs]
        assert [house.get(job).state for job in jobs] == ["succeeded", "succeeded"]
        assert {each["imported_by"] for each in seen} == {server}
        assert len({each["process"] for each in seen} | {server}) == 3
        assert len(house.starts()) == 3, "the upload's too"
        assert len(house.left_behind()) == 1, "the folder of the process that forks"
    assert house.nobody_left()
    assert not house.left_behind()


def test_where_nobody_is_ready_to_fork_a_child_is_started(house) -> None:
    with house.shift("probe", warm_children=False) as shift:
        job = house.submit()
        shift.work()
        seen = who_did(house, job)
        assert seen["imported_by"] == seen["process"]
        assert forks(shift)._server is None


def test_who_died_is_replaced_and_no_job_notices(house) -> None:
    with house.shift("probe", warm_children=True) as shift:
        first = ready(shift)
        os.kill(first, signal.SIGKILL)
        job = house.submit()
        shift.work()
        assert (house.get(job).state, house.get(job).attempts) == ("succeeded", 1)
        assert ready(shift) != first


def test_who_is_frozen_is_given_up(
    house, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A child that it would have forked when it thaws must not work beside the one that was started instead."""
    monkeypatch.setattr("leash.fork_server.PATIENCE_SECONDS", 0.5)
    with house.shift("probe", warm_children=True) as shift, caplog.at_level(logging.WARNING):
        first = ready(shift)
        os.kill(first, signal.SIGSTOP)
        job = house.submit()
        shift.work()
        assert house.get(job).state == "succeeded"
        assert who_did(house, job)["imported_by"] != first
        assert first not in house.living()
        assert len(house.starts()) == 1
    assert "did not start within 0.5 s" in caplog.text


def test_a_worker_that_is_killed_in_the_middle_of_a_job_takes_its_forked_child_along(house) -> None:
    worker = house.process("train", ABDISTILL_WARM_CHILDREN="true")
    wait_for_fork_server(house)
    job = house.submit()
    house.wait_for_checkpoint(job, 4)
    assert len(forkers(house)) == 4, "one that forks, and a leash of two with a child"
    worker.kill()
    worker.wait()
    assert house.nobody_left()


def test_a_stop_that_all_processes_are_sent_at_once_gives_the_job_back(house) -> None:
    """As some who start services send it. The process that forks must not go before the child has saved its state."""
    worker = house.process("train", ABDISTILL_WARM_CHILDREN="true")
    wait_for_fork_server(house)
    job = house.submit()
    house.wait_for_checkpoint(job, 4)
    assert len(forkers(house)) == 4
    for pid in house.living():
        with contextlib.suppress(ProcessLookupError):  # the first ones' end is what ends some of the others
            os.kill(pid, signal.SIGTERM)
    assert worker.wait(20) == 0
    back = house.get(job)
    assert (back.state, back.crashes) == ("queued", 0)
    assert "run.interrupted" in house.types(job)


@pytest.mark.parametrize(("sees", "forked"), [("sees_gpu", True), ("sees_no_gpu", False)])
def test_training_on_a_gpu_is_forked_only_where_the_forked_see_it(
    house,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    sees: str,
    forked: bool,
) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvidia0").touch()
    monkeypatch.setattr("worker.guardian.DEVICES", tmp_path / "dev")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("worker.rooms.TrainingRoom.with_gpu", lambda _self, limits, *_: limits)
    with house.shift(sees, warm_children=True) as shift, caplog.at_level(logging.WARNING):
        server = ready(shift)
        jobs = [house.submit() for _ in range(2)]
        shift.work()
        for job in jobs:
            assert house.get(job).state == "succeeded"
            assert (who_did(house, job)["imported_by"] == server) == forked
        assert len(house.starts()) == 2
    assert ("CUDA is gone" in caplog.text) != forked
