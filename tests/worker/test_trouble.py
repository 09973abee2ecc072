"""Children that hang, and children for which there is too little memory."""

import os
import resource
import signal
from pathlib import Path

import pytest
from sqlalchemy import select

from store.models import Job
from worker import trouble

sqlite_only = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

STALL_SECONDS = 3.0
"""A child needs a while to begin, on a busy machine too."""


@sqlite_only
def test_a_job_that_hangs_is_tried_again_and_then_failed_with_its_stack(house) -> None:
    job = house.submit()
    with house.shift("hang", stall_seconds=STALL_SECONDS) as shift:
        shift.work()
        first = house.get(job)
        assert (first.state, first.crashes) == ("queued", 1)
        house.let_wait_pass()
        shift.work()
    failed = house.get(job)
    assert (failed.state, failed.attempts) == ("failed", 2)
    assert "got no further for 3 s" in failed.problems[0]["message"]
    assert "where_it_hangs" in failed.problems[0]["value"], "the stack, in the problem"
    for attempt in (1, 2):
        assert b"where_it_hangs" in house.read(house.files(job)[f"log-{attempt}.txt"])
    assert house.types(job).count("note") == 2, "what it told before it hung is kept"
    assert house.nobody_left()


@sqlite_only
def test_a_long_silence_with_signs_of_headway_is_no_stall(house) -> None:
    """The child says nothing for twice as long as is allowed, while it works."""
    job = house.submit()
    with house.shift("breathe", stall_seconds=STALL_SECONDS) as shift:
        shift.work()
    assert house.get(job).state == "succeeded"


@sqlite_only
def test_a_verification_leaves_no_signs_and_is_not_judged(house) -> None:
    teacher = house.upload_teacher(b"a checkpoint")
    with house.at_work("tick", stall_seconds=0.01):
        (job,) = (row for row in all_jobs(house) if row.teacher_id == teacher.id)
        house.wait(job, lambda now: now.step == 1)
        house.open_gate()
        ended = house.wait(job, lambda now: now.state != "running")
    assert "child.stalled" not in [code for event in house.events(ended) for code in codes(event)]


def all_jobs(house):
    with house.db.read() as session:
        return list(session.scalars(select(Job)))


def codes(event) -> list[str]:
    return [event.data["problem"]["code"]] if "problem" in event.data else []


@pytest.mark.parametrize(("behaviour", "warm"), [("starve", False), ("gorge", False), ("gorge", True)])
def test_for_want_of_memory_the_next_attempt_halves_its_batches(
    house, behaviour: str, warm: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So does one for which a child waited that knew nothing of it."""
    counters = tmp_path / "vmstat"
    counters.write_text("nr_free_pages 9\noom_kill 3\n")
    monkeypatch.setattr(trouble, "KERNEL_COUNTERS", counters)
    job = house.submit()
    with house.shift(behaviour, warm_children=warm) as shift:
        shift.work()
        house.let_wait_pass()
        shift.work()
    done = house.get(job)
    assert (done.state, done.attempts) == ("succeeded", 2)
    assert house.nobody_left()
    (crashed,) = (event for event in house.events(job) if event.type == "job.crashed")
    assert crashed.data["problem"]["code"] == "child.out_of_memory"


def test_a_kill_that_the_kernel_did_not_count_has_another_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trouble, "KERNEL_COUNTERS", tmp_path / "vmstat")
    assert not trouble.MemoryWatch().explains(-signal.SIGKILL), "a system without the counter"
    (tmp_path / "vmstat").write_text("oom_kill 3\n")
    watch = trouble.MemoryWatch()
    assert not watch.explains(-signal.SIGKILL)
    (tmp_path / "vmstat").write_text("oom_kill 4\n")
    assert watch.explains(-signal.SIGKILL)
    assert not watch.explains(os.EX_OK)


@pytest.mark.parametrize("code", [-signal.SIGSEGV, -signal.SIGABRT])
def test_a_native_library_dies_for_want_of_memory_where_addresses_are_limited(code: int) -> None:
    watch = trouble.MemoryWatch()
    now, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    try:
        assert most == resource.RLIM_INFINITY, "the tests themselves run under `ulimit -v`"
        assert not watch.explains(code)
        resource.setrlimit(resource.RLIMIT_AS, (2**46, most))
        assert watch.explains(code)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (now, most))
