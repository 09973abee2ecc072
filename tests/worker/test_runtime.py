"""How long a job may run: counted over all attempts, by the clock of whoever runs it."""

import signal

import pytest

from store import leases

sqlite_only = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def test_a_job_whose_time_is_over_saves_and_ends_as_failed(house) -> None:
    """The child stands at a gate that nobody opens: without the limit it would stand there forever."""
    job = house.submit(max_runtime_seconds=1)
    with house.shift("train") as shift:
        shift.work()
    failed = house.get(job)
    assert failed.state == "failed"
    (problem,) = failed.problems
    assert (problem["code"], problem["where"], problem["value"]) == (
        "job.max_runtime",
        "max_runtime_seconds",
        1,
    )
    assert problem["allowed"] == ["> 1", "null"]
    assert "over all attempts" in failed.state_reason
    assert failed.run_seconds >= 1.0
    assert failed.crashes == 0
    assert "run.interrupted" in house.types(job), "it was asked to save, not killed"
    assert any(file.kind == "checkpoint" for file in house.files(job).values())
    assert house.nobody_left()


@sqlite_only
def test_one_that_does_not_listen_is_killed_after_the_grace(house) -> None:
    job = house.submit(max_runtime_seconds=1)
    with house.shift("stubborn", grace_seconds=0.5) as shift:
        shift.work()
    assert [problem["code"] for problem in house.get(job).problems] == ["job.max_runtime"]
    assert house.nobody_left()


@sqlite_only
def test_time_is_counted_over_all_attempts_and_not_between_them(house) -> None:
    job = house.submit(max_runtime_seconds=3)
    with house.at_work("train"):
        house.wait(job, lambda now: now.run_seconds > 0)  # a heartbeat wrote it down
    first = house.get(job)
    assert (first.state, first.attempts) == ("queued", 1)
    assert 0 < first.run_seconds < 3
    with house.shift("train") as shift:
        shift.work()
    second = house.get(job)
    assert (second.state, second.attempts) == ("failed", 2)
    assert second.run_seconds >= 3


@sqlite_only
def test_of_a_worker_that_was_killed_what_it_wrote_down_counts(house) -> None:
    job = house.submit(max_runtime_seconds=2)
    worker = house.process("train")
    house.wait(job, lambda now: now.run_seconds > 0)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    before = house.get(job).run_seconds
    assert before > 0
    house.process("train")
    failed = house.wait(job, lambda now: now.state == "failed")  # its lease runs out first, and a back-off
    assert failed.run_seconds > before
    assert failed.problems[0]["code"] == "job.max_runtime"


@sqlite_only
def test_one_that_has_no_time_left_is_not_started(house) -> None:
    job = house.submit(max_runtime_seconds=1)
    lease = leases.claim(house.db, "elsewhere", 60.0)
    leases.renew(house.db, lease, 60.0, attempt_seconds=2.0)
    leases.requeue(house.db, lease, "stopped")
    with house.shift("train") as shift:
        shift.work()
    assert house.get(job).state == "failed"
    assert house.starts() == []


@sqlite_only
def test_who_is_done_in_time_or_has_no_limit_succeeds(house) -> None:
    limited, free = house.submit(max_runtime_seconds=600), house.submit()
    with house.shift("quick") as shift:
        shift.work()
    assert [house.get(job).state for job in (limited, free)] == ["succeeded", "succeeded"]
    assert house.get(limited).run_seconds > 0
