"""Claims: the best job first, and never one job for two, from threads and from processes."""

import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sqlalchemy import update

from store.columns import unix_now
from store.database import Database
from store.leases import claim
from store.models import Job


def test_the_highest_priority_then_the_oldest_comes_first(hand) -> None:
    low, first, second = hand.submit(priority=-1), hand.submit(), hand.submit()
    urgent = hand.submit(priority=5)
    claimed = [hand.claim().job.id for _ in range(4)]
    assert claimed == [urgent.id, first.id, second.id, low.id]
    assert claim(hand.db, "worker", 60) is None


def test_a_claim_states_who_runs_what_since_when(hand) -> None:
    job = hand.submit()
    lease = hand.claim("worker-7")
    assert lease.job.id == job.id
    now = hand.get(job)
    assert (now.state, now.lease_owner, now.lease_epoch, now.attempts) == ("running", "worker-7", 1, 1)
    assert now.started_at is not None
    assert 50 < now.lease_expires_at - now.started_at <= 60.001
    assert hand.events(job) == ["job.queued", "job.running"]


def test_a_job_is_not_claimed_before_its_time(hand) -> None:
    job = hand.submit()
    with hand.db.write() as session:
        session.execute(update(Job).where(Job.id == job.id).values(not_before=unix_now() + 3600))
    assert claim(hand.db, "worker", 60) is None
    with hand.db.write() as session:
        session.execute(update(Job).where(Job.id == job.id).values(not_before=unix_now() - 1))
    assert hand.claim().job.id == job.id


def test_threads_never_claim_one_job_twice(hand) -> None:
    jobs = {hand.submit().id for _ in range(40)}

    def work(number: int) -> list[str]:
        taken = []
        while lease := claim(hand.db, f"worker-{number}", 60):
            taken.append(lease.job.id)
        return taken

    with ThreadPoolExecutor(8) as pool:
        taken = [job for part in pool.map(work, range(8)) for job in part]
    assert Counter(taken) == Counter(jobs)


_CLAIMER = """
import sys
from store.database import Database
from store.leases import claim
db = Database(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
while lease := claim(db, "worker-" + sys.argv[2], 60):
    print(lease.job.id, flush=True)
"""


def test_processes_never_claim_one_job_twice(hand, url: str) -> None:
    jobs = {hand.submit().id for _ in range(40)}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", _CLAIMER, url, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for number in range(3)
    ]
    for process in started:
        assert process.stdout.readline() == "ready\n"
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    taken = [job for process in started for job in process.communicate()[0].split()]
    assert [process.returncode for process in started] == [0] * 3
    assert Counter(taken) == Counter(jobs)
    assert {hand.get(lease).lease_owner for lease in _all_jobs(hand.db)} <= {
        "worker-0",
        "worker-1",
        "worker-2",
    }


def _all_jobs(db: Database) -> list[Job]:
    with db.read() as session:
        return list(session.query(Job).where(Job.kind == "distill"))


def test_a_slot_takes_only_what_it_has_devices_for(hand) -> None:
    wide = hand.submit(run=hand.run.model_copy(update={"devices": 4}), priority=9)
    narrow = hand.submit()
    assert wide.devices == 4
    lease = claim(hand.db, "worker", 60.0, devices=2)
    assert lease is not None
    assert lease.job.id == narrow.id, "the wide job goes first, and not here"
    assert claim(hand.db, "worker", 60.0, devices=2) is None
    lease = claim(hand.db, "worker", 60.0, devices=4)
    assert lease is not None
    assert lease.job.id == wide.id
