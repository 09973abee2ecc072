"""Worker processes as the service runs them: a real broker, real signals, several of them."""

import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from store.queue import Doorbell
from store.waiting import Waiting, why_waiting

sqlite_only = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 0


def freeze(worker: subprocess.Popen[bytes], house) -> None:
    """Stop a worker, but not within a write: SQLite's one lock would be frozen with it, for every process."""
    for _ in range(100):
        worker.send_signal(signal.SIGSTOP)
        probe = sqlite3.connect(house.db.url.database, timeout=0.5, isolation_level=None)
        try:
            probe.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError:
            worker.send_signal(signal.SIGCONT)
        finally:
            probe.close()
    raise AssertionError("the worker never let go of the database")


def children(house) -> list[int]:
    """The job's processes themselves, without their leashes."""
    return [
        pid for pid, command in house.living().items() if command.split()[1] == "-P" and "child.py" in command
    ]


@sqlite_only
def test_a_ring_is_enough(house_with_bell) -> None:
    house = house_with_bell
    first = house.submit()
    worker = house.process("quick")
    house.wait(first, lambda job: job.state == "succeeded")  # a worker looks once when it starts
    second = house.submit()
    bell = Doorbell(house.settings.broker_url)
    bell.ring()
    bell.close()
    house.wait(second, lambda job: job.state == "succeeded")
    stop(worker)
    assert house.nobody_left()
    assert not list(house.settings.workspace_dir.glob("wrk_*"))


def test_a_job_knows_whether_a_worker_is_there(house) -> None:
    """A worker says that it is there, also while all it can do is to run a job, and that it ends."""

    def why(job) -> Waiting:
        return why_waiting(house.db, house.get(job), house.settings.lease_seconds)

    runs, waits = house.submit(), house.submit()
    assert why(runs).code == "no_worker"
    worker = house.process("train")
    house.wait(runs, lambda now: now.state == "running")
    house.wait(waits, lambda _: why(waits).code == "busy")
    assert (why(waits).slots, why(waits).busy_slots, why(waits).jobs_ahead) == (1, 1, 0)
    stop(worker)
    assert why(waits).workers == 0
    assert "none is known" in why(waits).message


def test_sigterm_gives_the_job_back_and_another_worker_goes_on(house_with_bell) -> None:
    house = house_with_bell
    house.open_gate()
    worker = house.process("train")
    house.wait(house.submit(), lambda now: now.state == "succeeded")
    (house.folder / "gate").unlink()
    job = house.submit()
    bell = Doorbell(house.settings.broker_url)
    bell.ring()
    bell.close()
    house.wait(job, lambda now: now.step == 4)
    began = time.monotonic()
    stop(worker)
    print(f"stopped after {time.monotonic() - began:.2f} s")
    back = house.get(job)
    assert (back.state, back.crashes) == ("queued", 0)
    assert house.nobody_left()
    house.open_gate()
    worker = house.process("train")
    done = house.wait(job, lambda now: now.state == "succeeded")
    assert (done.attempts, done.crashes) == (2, 0)
    assert [event.data["step"] for event in house.events(job) if event.type == "run.resumed"] == [4]
    stop(worker)


@sqlite_only
def test_without_a_broker_jobs_run_and_workers_stop(house) -> None:
    """The broker is down from the beginning, and stays so."""
    house.settings.broker_url = f"redis+socket://{house.folder}/nobody-listens"
    worker = house.process("quick")
    job = house.submit()
    bell = Doorbell(house.settings.broker_url)
    bell.ring()
    bell.close()
    house.wait(job, lambda now: now.state == "succeeded")
    stop(worker)


@sqlite_only
def test_sigterm_while_the_worker_still_starts_gives_its_first_job_back(house_with_bell) -> None:
    """A worker claims before Celery is up: the signal must not kill what Celery would have stopped."""
    house = house_with_bell
    job = house.submit()
    worker = house.process("train")
    house.wait(job, lambda now: now.state == "running")
    stop(worker)
    assert (house.get(job).state, house.get(job).crashes) == ("queued", 0)
    assert house.nobody_left()


@sqlite_only
def test_no_broker_at_all(house) -> None:
    worker = house.process("train")
    job = house.submit()
    house.wait(job, lambda now: now.step == 4)
    stop(worker)
    assert house.get(job).state == "queued"


def test_two_workers_never_run_one_job_twice(house_with_bell) -> None:
    house = house_with_bell
    house.settings.poll_seconds = 0.05
    house.settings.worker_slots = 2
    workers = [house.process("quick") for _ in range(2)]
    bell = Doorbell(house.settings.broker_url)
    jobs = []
    for _ in range(6):
        jobs.append(house.submit())
        bell.ring(3)
    bell.close()
    for job in jobs:
        done = house.wait(job, lambda now: now.state == "succeeded")
        assert (done.attempts, done.lease_epoch) == (1, 1)
    assert sorted(house.starts()) == sorted(f"{job.id}-1" for job in jobs)
    for worker in workers:
        stop(worker)


@sqlite_only
def test_a_frozen_worker_and_its_successor_do_not_overlap(house) -> None:
    job = house.submit()
    house.settings.lease_seconds = 3.0
    frozen = house.process("train")
    house.wait_for_checkpoint(job, 4)
    freeze(frozen, house)
    successor = house.process("train")
    house.wait(job, lambda now: now.state == "queued")
    house.let_wait_pass()
    house.wait(job, lambda now: now.attempts == 2 and "run.resumed" in house.types(job))
    assert len(children(house)) == 1, "the frozen worker's child is dead, though its worker could not kill it"
    frozen.send_signal(signal.SIGCONT)
    house.open_gate()
    done = house.wait(job, lambda now: now.state == "succeeded")
    assert (done.attempts, done.crashes) == (2, 1)
    assert [file.lease_epoch for file in house.files(job).values() if file.kind == "student"] == [2]
    for worker in (frozen, successor):
        stop(worker)


def test_a_killed_worker_leaves_nothing_but_its_job(house) -> None:
    job = house.submit()
    house.settings.lease_seconds = 3.0
    killed = house.process("train")
    house.wait_for_checkpoint(job, 4)
    killed.kill()
    killed.wait()
    assert house.nobody_left()
    left = {path.name for path in house.settings.workspace_dir.glob("wrk_*")}
    assert left
    house.open_gate()
    successor = house.process("train")
    house.wait(job, lambda now: now.state == "queued")
    house.let_wait_pass()
    done = house.wait(job, lambda now: now.state == "succeeded")
    assert (done.attempts, done.crashes) == (2, 1)
    assert [event.data["step"] for event in house.events(job) if event.type == "run.resumed"] == [4]
    assert not left & {path.name for path in house.settings.workspace_dir.glob("wrk_*")}
    stop(successor)


def test_the_worker_knows_no_torch() -> None:
    program = "import sys, worker.main; assert not {'torch', 'numpy'} & set(sys.modules), 'a second of start-up each'"
    subprocess.run([sys.executable, "-c", program], check=True)
