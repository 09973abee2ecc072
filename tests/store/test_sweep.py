"""The sweeper: one at a time, only what has expired."""

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import Update, update

from store.columns import unix_now
from store.endings import LONGEST_BACKOFF_SECONDS
from store.leases import claim
from store.models import Job, Sweep
from store.sweep import Swept, sweep


def test_an_expired_lease_is_charged_and_its_job_queued(hand) -> None:
    lost, alive, waiting = hand.submit(), hand.submit(), hand.submit()
    hand.claim("dead", seconds=-1)
    hand.claim("alive")
    swept = sweep(hand.db, sweep_seconds=0)
    assert (swept.recovered, swept.rings_needed) == ([lost.id], 1)
    now = hand.get(lost)
    assert (now.state, now.crashes, now.lease_owner, now.lease_epoch) == ("queued", 1, None, 1)
    assert "Crashed 1 of at most 3" in now.state_reason
    assert hand.events(lost) == ["job.queued", "job.running", "job.crashed", "job.queued"]
    assert (hand.get(alive).state, hand.get(waiting).state) == ("running", "queued")
    hand.let_wait_pass()
    assert sweep(hand.db, sweep_seconds=0).rings_needed == 2


def test_the_last_loss_ends_the_job(hand) -> None:
    job = hand.submit()
    for _ in range(3):
        hand.let_wait_pass()
        hand.claim("dead", seconds=-1)
        assert sweep(hand.db, sweep_seconds=0).recovered == [job.id]
    ended = hand.get(job)
    assert (ended.state, ended.crashes) == ("failed", 3)
    assert "worker.lost" not in ended.problems[0]["message"]
    assert "dead" in ended.problems[0]["message"]


def test_a_second_sweep_soon_after_does_nothing(hand) -> None:
    hand.submit()
    assert sweep(hand.db, sweep_seconds=15).rings_needed == 1
    hand.claim(seconds=-1)
    again = sweep(hand.db, sweep_seconds=15)
    assert (again.rings_needed, again.recovered) == (0, [])
    with hand.db.write() as session:
        session.execute(update(Sweep).values(swept_at=unix_now() - 16))
    assert len(sweep(hand.db, sweep_seconds=15).recovered) == 1


def test_a_clock_that_was_set_back_does_not_stop_sweeps(hand) -> None:
    hand.submit()
    with hand.db.write() as session:
        session.execute(update(Sweep).values(swept_at=unix_now() + 3600))
    assert sweep(hand.db, sweep_seconds=15).rings_needed == 1


@pytest.mark.parametrize(("lost", "column"), [(True, "lease_expires_at"), (False, "not_before")])
def test_a_clock_that_was_set_back_keeps_no_job_waiting(hand, lost: bool, column: str) -> None:
    """Neither with a worker that is lost, nor before it is tried again: at most as long as if the clock were right."""
    job = hand.submit()
    if lost:
        hand.claim("dead")
    with hand.db.write() as session:
        session.execute(update(Job).values({column: unix_now() + 3600}))
    sweep(hand.db, sweep_seconds=0, lease_seconds=9)
    left_seconds = getattr(hand.get(job), column) - time.time()
    assert left_seconds <= (9 if lost else LONGEST_BACKOFF_SECONDS) + 1


def test_of_many_sweepers_one_does_it(hand) -> None:
    made = [hand.submit().id for _ in range(10)]
    for _ in made:
        assert claim(hand.db, "dead", -1) is not None
    gate = Barrier(8)

    def run(_number: int) -> list[str]:
        gate.wait()
        return sweep(hand.db, sweep_seconds=15).recovered

    with ThreadPoolExecutor(8) as pool:
        found = [part for part in pool.map(run, range(8)) if part]
    assert [sorted(part) for part in found] == [sorted(made)]


def test_a_sweep_does_not_wait_for_a_worker_that_is_just_renewing(hand) -> None:
    job = hand.submit()
    hand.claim(seconds=-1)
    renewal = update(Job).where(Job.id == job.id).values(lease_expires_at=unix_now() + 60)
    assert _sweep_during(hand, renewal).recovered == []
    assert hand.get(job).state == "running"


def test_a_sweep_does_not_wait_for_another_sweep(hand) -> None:
    hand.submit()
    assert _sweep_during(hand, update(Sweep).values(swept_at=unix_now())).rings_needed == 0


def _sweep_during(hand, statement: Update) -> Swept:
    """Sweep while another transaction has changed a row and not committed; on SQLite a sweep comes after it."""
    with ThreadPoolExecutor(1) as pool:
        with hand.db.write() as session:
            session.execute(statement)
            sweeping = pool.submit(sweep, hand.db, sweep_seconds=15)
            if hand.db.url.get_backend_name() == "postgresql":
                return sweeping.result(timeout=20)
        return sweeping.result(timeout=20)
