"""Children that wait for work: one a slot, each for one job, never in the way."""

import pytest

from store import leases
from store.models import Job

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def processes(house) -> set[int]:
    """The children that wait, without the leashes that hold them."""
    return {pid for pid, command in house.living().items() if "--warm" in command and "leash" not in command}


def who_did(house, job: Job) -> int:
    note = next(event for event in house.events(job) if event.type == "note")
    return note.data["details"]["process"]


def test_a_job_is_done_by_the_child_that_waited_and_another_one_takes_its_place(house) -> None:
    with house.shift("probe", warm_children=True) as shift:
        shift.work()
        (first,) = processes(house)
        job = house.submit()
        shift.work()
        assert house.get(job).state == "succeeded"
        assert who_did(house, job) == first
        (second,) = processes(house)
        assert second != first
        assert len(house.left_behind()) == 1, "the folder in which the second one waits"
    assert house.nobody_left()
    assert not house.left_behind()


def test_one_waits_in_each_slot(house) -> None:
    with house.shift("quick", warm_children=True, worker_slots=2) as shift:
        for _ in range(4):
            shift.work()
        assert len(processes(house)) == 2


def test_an_upload_is_not_read_by_a_child_that_waited(house) -> None:
    """It has no limit of memory."""
    with house.shift("refuse", warm_children=True) as shift:
        shift.work()
        (waiting,) = processes(house)
        house.upload_teacher(b"weights")
        shift.work()
        (folder,) = house.starts()
        assert folder.startswith("job_"), "a folder of its own, not the slot's"
        assert processes(house) == {waiting}


def test_where_the_one_that_waited_has_died_the_job_gets_another(house) -> None:
    with house.shift("probe", warm_children=True) as shift:
        shift.work()
        (place,) = shift._workshop.warm._places.values()
        place.waiting.kill()
        place.waiting.wait()
        job = house.submit()
        shift.work()
        assert house.get(job).state == "succeeded"
        assert house.get(job).attempts == 1


def test_a_job_that_is_cancelled_before_its_child_begins_leaves_no_child(house) -> None:
    """The room that was laid out for it is cleared away, with whoever waited in it."""
    with house.shift("quick", warm_children=True) as shift:
        shift.work()
        (first,) = processes(house)
        house.submit()
        lease = leases.claim(house.db, "worker", 60.0)
        with shift._workshop.warm.place(lease, 0) as place:
            assert place.waiting is not None
        assert first not in house.living()
        assert house.starts() == []
