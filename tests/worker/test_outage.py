"""The database goes away while a job runs: a real PostgreSQL that refuses and ends all connections."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread

import pytest
from sqlalchemy import create_engine, make_url, text

from store.sweep import sweep

pytestmark = pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
Outage = Callable[[], "contextmanager[None]"]


@pytest.fixture
def outage(postgres_url: str, database_url: str) -> Outage:
    """`with outage(): ...`: nobody reaches the database in the block."""
    name = make_url(database_url).database

    @contextmanager
    def away() -> Iterator[None]:
        engine = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
                ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
                connection.execute(text(ended), {"name": name})
                try:
                    yield
                finally:
                    connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
        finally:
            engine.dispose()

    return away


def test_a_short_outage_costs_nothing(house, outage: Outage, caplog: pytest.LogCaptureFixture) -> None:
    """Neither while the child runs, whose events wait, nor where it ends in the midst of it: its result waits."""
    job = house.submit()
    with house.at_work("tick", lease_seconds=60.0):
        house.wait(job, lambda now: now.step == 1)
        with outage():
            deadline = time.monotonic() + 10.0
            while "events wait for the database" not in caplog.text:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            house.open_gate()
            assert house.nobody_left(15.0)
        done = house.wait(job, lambda now: now.state != "running")
    assert (done.state, done.attempts, done.crashes) == ("succeeded", 1, 0)
    assert house.types(job)[-2:] == ["run.finished", "job.succeeded"]


def test_no_child_outlives_its_lease(house, outage: Outage) -> None:
    """Whoever takes the job over finds nobody at work on it."""
    job = house.submit()
    with house.shift("stubborn", lease_seconds=2.0) as shift:
        thread = Thread(target=shift.work)
        thread.start()
        house.wait_for(job, "checkpoint.saved")
        with outage():
            assert house.nobody_left(10.0)
            thread.join()
    assert house.get(job).state == "running"
    house.wait(job, lambda _: sweep(house.db, sweep_seconds=0.0).recovered == [job.id])
    assert house.get(job).crashes == 1
