"""A user's side: submitting once, stopping, listing."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import func, select

from store import datasets, job_lists, jobs, teachers
from store.errors import (
    IdempotencyConflict,
    NotCancellable,
    NotFound,
    NotPausable,
    NotPaused,
    NotReady,
)
from store.jobs import NewJob, submit
from store.leases import claim, finish
from store.models import Job, Project


def _count(hand) -> int:
    with hand.db.read() as session:
        return session.scalar(select(func.count()).where(Job.kind == "distill")) or 0


def test_what_is_submitted_is_kept(hand) -> None:
    teacher = hand.verified(teachers.create(hand.db, hand.project, name="t", model=hand.model))
    job = hand.submit(
        name="first \0",
        labels={"team": "vision"},
        spec={"asked": 1},
        plan={"a": [1, None]},
        teacher_id=teacher.id,
    )
    kept = hand.get(job)
    assert (kept.name, kept.labels, kept.spec, kept.plan) == (
        "first \ufffd",
        {"team": "vision"},
        {"asked": 1},
        {"a": [1, None]},
    )
    assert (kept.teacher_id, kept.dataset_id) == (teacher.id, hand.ready_dataset)
    assert type(hand.run).model_validate(kept.run) == hand.run
    assert (kept.state, kept.state_reason, kept.progress) == ("queued", "Waiting for a worker.", 0.0)
    assert kept.report is None
    assert hand.events(job) == ["job.queued"]


def test_the_same_request_twice_makes_one_job(hand) -> None:
    new = hand.new_job(idempotency_key="k", idempotency_hash="a" * 64)
    first, second = submit(hand.db, new), submit(hand.db, new)
    assert (first.replayed, second.replayed) == (False, True)
    assert first.job.id == second.job.id
    assert _count(hand) == 1


def test_a_replay_needs_nothing_that_is_gone_since(hand) -> None:
    new = hand.new_job(idempotency_key="k", idempotency_hash="a" * 64)
    job = submit(hand.db, new).job
    jobs.request_cancel(hand.db, hand.project, job.id)
    datasets.delete(hand.db, hand.project, new.dataset_id)
    assert submit(hand.db, new).job.state == "cancelled"


def test_another_request_with_the_same_key_is_refused(hand) -> None:
    hand.submit(idempotency_key="k", idempotency_hash="a" * 64)
    with pytest.raises(IdempotencyConflict, match="use a new key"):
        hand.submit(idempotency_key="k", idempotency_hash="b" * 64)
    assert _count(hand) == 1


def test_keys_belong_to_a_project(hand) -> None:
    with hand.db.write() as session:
        session.add(Project(id="prj_other", name="other"))
    mine = hand.submit(idempotency_key="k", idempotency_hash="a" * 64)
    hand.project = "prj_other"
    del hand.ready_dataset
    jobs.request_cancel(hand.db, "prj_default", mine.id)
    assert hand.submit(idempotency_key="k", idempotency_hash="b" * 64).id != mine.id


def test_many_at_once_with_one_key_make_one_job(hand) -> None:
    new = hand.new_job(idempotency_key="k", idempotency_hash="a" * 64)
    gate = Barrier(24)

    def post(_number: int) -> tuple[str, bool]:
        gate.wait()
        made = submit(hand.db, new)
        return made.job.id, made.replayed

    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(post, range(24)))
    assert len({job for job, _ in answers}) == 1
    assert [replayed for _, replayed in answers].count(False) == 1
    assert _count(hand) == 1


def test_many_at_once_with_different_bodies_make_one_job_and_conflicts(hand) -> None:
    news = [hand.new_job(idempotency_key="k", idempotency_hash=f"{number:064}") for number in range(12)]
    gate = Barrier(12)

    def post(new: NewJob) -> str:
        gate.wait()
        try:
            return submit(hand.db, new).job.id
        except IdempotencyConflict:
            return "conflict"

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(post, news))
    assert answers.count("conflict") == 11
    assert _count(hand) == 1


def test_a_job_needs_a_dataset_and_a_teacher_that_are_there_and_ready(hand) -> None:
    pending = teachers.create(hand.db, hand.project, name="t", model=hand.model)
    with pytest.raises(NotFound, match="dataset 'dst_none'"):
        hand.submit(dataset_id="dst_none")
    with pytest.raises(NotFound, match="teacher 'tch_none'"):
        hand.submit(teacher_id="tch_none")
    with pytest.raises(NotReady, match=r"pending \(Waiting for its content"):
        hand.submit(teacher_id=pending.id)
    gone = hand.verified(pending)
    teachers.delete(hand.db, hand.project, gone.id)
    with pytest.raises(NotFound):
        hand.submit(teacher_id=gone.id)
    assert _count(hand) == 0


def test_another_projects_dataset_is_not_found(hand) -> None:
    with pytest.raises(NotFound, match=hand.ready_dataset):
        hand.submit(project_id="prj_other")


def test_cancelling_a_queued_job_ends_it(hand) -> None:
    job = hand.submit()
    cancelled = jobs.request_cancel(hand.db, hand.project, job.id)
    assert cancelled.state == "cancelled"
    assert cancelled.ended_at is not None
    assert claim(hand.db, "worker", 60) is None
    with pytest.raises(NotCancellable, match="is cancelled"):
        jobs.request_cancel(hand.db, hand.project, job.id)
    assert hand.events(job) == ["job.queued", "job.cancelled"]


def test_cancelling_a_running_job_asks_its_worker_once(hand) -> None:
    job = hand.submit()
    hand.claim()
    for _ in range(3):
        asked = jobs.request_cancel(hand.db, hand.project, job.id)
        assert (asked.state, asked.stop_requested) == ("running", "cancel")
    assert jobs.request_pause(hand.db, hand.project, job.id).stop_requested == "cancel"
    assert hand.events(job) == ["job.queued", "job.running", "job.cancel_requested"]


def test_pausing_and_resuming_a_queued_job(hand) -> None:
    job = hand.submit()
    with pytest.raises(NotPaused):
        jobs.resume(hand.db, hand.project, job.id)
    assert jobs.request_pause(hand.db, hand.project, job.id).state == "paused"
    with pytest.raises(NotPausable):
        jobs.request_pause(hand.db, hand.project, job.id)
    assert claim(hand.db, "worker", 60) is None
    assert jobs.resume(hand.db, hand.project, job.id).state == "queued"
    jobs.request_pause(hand.db, hand.project, job.id)
    assert jobs.request_cancel(hand.db, hand.project, job.id).state == "cancelled"


def test_cancels_race_with_claims_and_one_of_them_wins(hand) -> None:
    made = [hand.submit() for _ in range(20)]
    gate = Barrier(2)

    def cancel_all() -> None:
        gate.wait()
        for job in made:
            jobs.request_cancel(hand.db, hand.project, job.id)

    def claim_all() -> list[str]:
        gate.wait()
        taken = []
        while lease := claim(hand.db, "worker", 60):
            taken.append(lease.job.id)
        return taken

    with ThreadPoolExecutor(2) as pool:
        cancelling, claiming = pool.submit(cancel_all), pool.submit(claim_all)
        cancelling.result()
        taken = claiming.result()
    for job in made:
        now = hand.get(job)
        wanted = ("running", "cancel") if job.id in taken else ("cancelled", None)
        assert (now.state, now.stop_requested) == wanted


def test_cancels_race_with_results_and_every_job_ends_once(hand) -> None:
    made = [hand.submit() for _ in range(10)]
    leases = [hand.claim() for _ in made]
    report = hand.report(datasets.create(hand.db, hand.project, name="d", filename="d.npz"))
    gate = Barrier(2)

    def cancel_all() -> None:
        gate.wait()
        for job in made:
            try:
                jobs.request_cancel(hand.db, hand.project, job.id)
            except NotCancellable:
                assert hand.get(job).state == "succeeded"

    def finish_all() -> None:
        gate.wait()
        for lease in leases:
            finish(hand.db, lease, report, [])

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(cancel_all), pool.submit(finish_all)]:
            future.result()
    for job in made:
        assert hand.get(job).state == "succeeded"
        assert hand.events(job).count("job.succeeded") == 1


def test_another_project_sees_and_touches_nothing(hand) -> None:
    job = hand.submit()
    for look in (jobs.get, jobs.request_cancel, jobs.request_pause, jobs.resume):
        with pytest.raises(NotFound):
            look(hand.db, "prj_other", job.id)
    assert job_lists.list_jobs(hand.db, "prj_other").items == []
    assert hand.get(job).state == "queued"


def test_an_id_that_no_database_can_hold_is_not_found(hand) -> None:
    with pytest.raises(NotFound):
        jobs.get(hand.db, hand.project, "job_\0\ud800")
