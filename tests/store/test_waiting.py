"""Why a job waits: each reason, and that the first one that holds is told."""

import pytest
from sqlalchemy import update

from store import jobs, leases, workers
from store.columns import unix_now
from store.job_models import Worker
from store.waiting import Waiting, why_waiting

SILENCE_SECONDS = 60.0


@pytest.fixture
def why(hand):
    def ask(job) -> Waiting | None:
        return why_waiting(hand.db, hand.get(job), SILENCE_SECONDS)

    return ask


def grow_silent(hand, worker: str) -> None:
    with hand.db.write() as session:
        silent = {"seen_at": unix_now() - SILENCE_SECONDS - 1}
        session.execute(update(Worker).where(Worker.id == worker).values(silent))


def test_no_worker_was_ever_there(hand, why) -> None:
    told = why(hand.submit())
    assert (told.code, told.workers, told.slots, told.until) == ("no_worker", 0, 0, None)
    assert "none is known" in told.message


def test_the_last_worker_was_killed(hand, why) -> None:
    job = hand.submit()
    workers.announce(hand.db, "wrk_1", 2)
    assert why(job).code == "next"
    grow_silent(hand, "wrk_1")
    told = why(job)
    assert (told.code, told.workers) == ("no_worker", 0)
    assert "lost after 60 s" in told.message
    assert why(job) == told, "who asks again must not be told of news"
    workers.announce(hand.db, "wrk_1", 2)
    assert why(job).code == "next"
    workers.leave(hand.db, "wrk_1")
    assert "none is known" in why(job).message


def test_those_that_were_killed_long_ago_are_forgotten(hand, why) -> None:
    workers.announce(hand.db, "wrk_1", 1)
    with hand.db.write() as session:
        session.execute(update(Worker).values(seen_at=unix_now() - workers.FORGET_SECONDS - 1))
    workers.announce(hand.db, "wrk_2", 1)
    workers.leave(hand.db, "wrk_2")
    assert "none is known" in why(hand.submit()).message


def test_all_slots_are_busy(hand, why) -> None:
    workers.announce(hand.db, "wrk_1", 1)
    workers.announce(hand.db, "wrk_2", 1)
    grow_silent(hand, "wrk_2")  # its slot counts no more
    first, second, third = (hand.submit() for _ in range(3))
    urgent = hand.submit(priority=1)
    assert hand.claim().job.id == urgent.id
    assert why(urgent) is None
    assert [why(job).jobs_ahead for job in (first, second, third)] == [0, 1, 2]
    told = why(third)
    assert (told.code, told.slots, told.busy_slots) == ("busy", 1, 1)
    assert told.message == "Every slot is busy (1 slot of 1 worker), with 2 jobs ahead."
    assert "with 1 job ahead" in why(second).message


def test_a_slot_is_free(hand, why) -> None:
    workers.announce(hand.db, "wrk_1", 2)
    first, second = hand.submit(), hand.submit()
    assert "takes it within seconds" in why(first).message
    told = why(second)
    assert (told.code, told.jobs_ahead, told.slots, told.busy_slots) == ("next", 1, 2, 0)
    assert "1 job ahead" in told.message


def test_no_slot_is_wide_enough(hand, why) -> None:
    workers.announce(hand.db, "wrk_1", 4)
    workers.announce(hand.db, "wrk_2", 1, slot_devices=2)
    wide = hand.submit(run=hand.run.model_copy(update={"devices": 4}))
    narrow = hand.submit(run=hand.run.model_copy(update={"devices": 2}))
    told = why(wide)
    assert told.code == "no_devices"
    assert "asks for 4 devices, and no slot of a worker has more than 2" in told.message
    assert "ABDISTILL_SLOT_DEVICES=4" in told.message
    assert why(narrow).code == "next"


def test_after_a_crash_it_waits_until_a_time(hand, why, problem) -> None:
    job = hand.submit()
    leases.crash(hand.db, hand.claim(), problem, "")
    told = why(job)
    assert told.code == "backoff", "that there is no worker holds it back no longer than this"
    assert told.until == hand.get(job).not_before
    assert "After crash 1 it is tried again at" in told.message
    hand.let_wait_pass()
    assert why(job).code == "no_worker"


def test_a_paused_job_waits_for_its_user(hand, why) -> None:
    job = hand.submit()
    jobs.request_pause(hand.db, hand.project, job.id)
    told = why(job)
    assert (told.code, told.jobs_ahead) == ("paused", 0)
    assert f"POST /v1/jobs/{job.id}/resume" in told.message
    jobs.resume(hand.db, hand.project, job.id)
    assert why(job).code == "no_worker"
    jobs.request_cancel(hand.db, hand.project, job.id)
    assert why(job) is None
