"""What a project may have: each quota holds, under concurrency too, and holds back nobody else."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from store import datasets, jobs, leases, quotas, workers
from store.errors import NotFound, QueueFull, StorageFull
from store.keys import create_key
from store.leases import claim
from store.models import DEFAULT_PROJECT
from store.projects import create_project
from store.quotas import Use
from store.sweep import sweep
from store.waiting import why_waiting


@pytest.fixture
def limit(db):
    """Gives the default project limits, and takes them away."""
    yield lambda **limits: quotas.set_limits(db, DEFAULT_PROJECT, limits)
    quotas.set_limits(db, DEFAULT_PROJECT, dict.fromkeys(quotas.QUOTAS))


@pytest.fixture
def other(hand):
    """A hand in another project."""
    project = create_project(hand.db, "other")
    create_key(hand.db, project.id, "its own")
    second = type(hand)(hand.db)
    second.project = project.id
    return second


def used(hand) -> dict[str, int]:
    return {name: use.used for name, use in quotas.usage(hand.db, hand.project).items()}


def test_without_limits_everything_is_counted_and_nothing_refused(hand, other) -> None:
    jobs_of_mine = [hand.submit() for _ in range(3)]
    jobs.request_pause(hand.db, hand.project, jobs_of_mine[2].id)
    lease = hand.claim()
    assert used(hand) == {"stored_bytes": 5, "running_jobs": 1, "queued_jobs": 2}
    leases.finish(
        hand.db,
        lease,
        hand.report(datasets.get(hand.db, hand.project, hand.ready_dataset)),
        [hand.file("student")],
    )
    assert used(hand) == {"stored_bytes": 10, "running_jobs": 0, "queued_jobs": 2}
    assert used(other) == {"stored_bytes": 0, "running_jobs": 0, "queued_jobs": 0}
    assert quotas.usage(hand.db, hand.project)["queued_jobs"] == Use(2, None)
    with pytest.raises(NotFound):
        quotas.usage(hand.db, "prj_none")
    with pytest.raises(NotFound):
        quotas.set_limits(hand.db, "prj_none", {})


def test_one_job_more_than_may_wait_is_refused_and_leaves_nothing(hand, other, limit) -> None:
    first = hand.submit()
    limit(queued_jobs=2)
    hand.submit()
    with pytest.raises(QueueFull) as refused:
        hand.submit()
    assert (refused.value.used, refused.value.limit) == (2, 2)
    assert "queued_jobs" in str(refused.value)
    jobs.request_cancel(hand.db, hand.project, first.id)
    paused = hand.submit()
    jobs.request_pause(hand.db, hand.project, paused.id)
    with pytest.raises(QueueFull):
        hand.submit()
    jobs.resume(hand.db, hand.project, paused.id)
    assert used(hand)["queued_jobs"] == 2
    hand.verified(
        datasets.create(hand.db, hand.project, name="d", filename="d.npz")
    )  # a verification is not counted
    other.submit()


def test_an_idempotency_key_is_answered_though_nothing_more_may_wait(hand, limit) -> None:
    new = hand.new_job(idempotency_key="k", idempotency_hash="0" * 64)
    limit(queued_jobs=1)
    first = jobs.submit(hand.db, new)
    assert jobs.submit(hand.db, new).job.id == first.job.id
    with pytest.raises(QueueFull):
        hand.submit()


def test_ten_at_once_find_no_more_places_than_there_are(hand, limit) -> None:
    new = hand.new_job()
    limit(queued_jobs=3)

    def attempt(_: int) -> bool:
        try:
            jobs.submit(hand.db, new)
        except QueueFull:
            return False
        return True

    with ThreadPoolExecutor(10) as pool:
        outcomes = list(pool.map(attempt, range(10)))
    assert sum(outcomes) == used(hand)["queued_jobs"] == 3


def test_bytes_that_have_no_room_are_refused_before_and_after_they_are_sent(hand, limit) -> None:
    row = datasets.create(hand.db, hand.project, name="d", filename="d.npz")
    limit(stored_bytes=7)
    assert used(hand)["stored_bytes"] == 0
    quotas.look_for_room(hand.db, hand.project, 7)
    with pytest.raises(StorageFull) as refused:
        quotas.look_for_room(hand.db, hand.project, 8)
    assert (refused.value.used, refused.value.limit) == (0, 7)
    with pytest.raises(StorageFull, match="stored_bytes"):
        datasets.attach_upload(hand.db, hand.project, row.id, "uploads/x/1", "1" * 64, 8)
    assert datasets.get(hand.db, hand.project, row.id).upload_sha256 is None
    datasets.attach_upload(hand.db, hand.project, row.id, "uploads/x/1", "1" * 64, 7)
    other = datasets.create(hand.db, hand.project, name="e", filename="e.npz")
    with pytest.raises(StorageFull):
        datasets.attach_upload(hand.db, hand.project, other.id, "uploads/y/1", "1" * 64, 1)
    datasets.delete(hand.db, hand.project, row.id)
    datasets.attach_upload(hand.db, hand.project, other.id, "uploads/y/1", "1" * 64, 1)


def test_a_job_whose_results_would_find_no_room_is_not_queued(hand, limit) -> None:
    new = hand.new_job()
    limit(stored_bytes=5)
    with pytest.raises(StorageFull):
        jobs.submit(hand.db, new)
    limit(stored_bytes=6)
    jobs.submit(hand.db, new)


def test_the_queue_passes_a_project_over_of_which_as_many_run_as_may(hand, other, limit) -> None:
    mine = [hand.submit(priority=9) for _ in range(2)]
    theirs = other.submit()
    limit(running_jobs=1)
    first = hand.claim()
    assert first.job.id == mine[0].id
    workers.announce(hand.db, "wrk_1", 4)
    told = why_waiting(hand.db, hand.get(mine[1]), 60.0)
    assert told.code == "quota"
    assert "1 job run, and 1 may" in told.message
    assert sweep(hand.db, sweep_seconds=0).rings_needed == 1
    assert hand.claim().job.id == theirs.id
    assert claim(hand.db, "worker", 60.0) is None
    upload = datasets.create(hand.db, hand.project, name="d", filename="d.npz")
    datasets.attach_upload(hand.db, hand.project, upload.id, "uploads/x/1", "1" * 64, 3)
    assert hand.claim().job.kind == "verify_dataset"
    leases.requeue(hand.db, first, "its worker stops")
    assert hand.claim().job.id == mine[0].id
    limit(running_jobs=2)
    assert why_waiting(hand.db, hand.get(mine[1]), 60.0).code != "quota"
    assert hand.claim().job.id == mine[1].id


def test_a_limit_of_none_running_holds_everything_back(hand, limit) -> None:
    hand.submit()
    limit(running_jobs=0)
    assert claim(hand.db, "worker", 60.0) is None


def test_twelve_workers_at_once_start_no_more_than_may_run(hand, other, limit) -> None:
    for _ in range(6):
        hand.submit(priority=1)
        other.submit()
    limit(running_jobs=2)
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda number: claim(hand.db, f"worker {number}", 60.0), range(12)))
    assert used(hand)["running_jobs"] == 2
    # A worker that met others' locked rows may have gone home; the next look takes what is left.
    while claim(hand.db, "last", 60.0) is not None:
        pass
    assert (used(hand)["running_jobs"], used(other)["running_jobs"]) == (2, 6)
    assert sum(lease is not None for lease in found) <= 8
