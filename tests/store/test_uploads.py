"""Teachers and datasets: content once, verified by a job, kept while jobs need it."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from abcore.specs.architectures import Normalization
from abcore.specs.runs import VerifyDatasetRun, VerifyTeacherRun
from store import datasets, jobs, teachers
from store.errors import AlreadyUploaded, BadCursor, Conflict, InUse, NotFound, NotReady
from store.leases import Directive, claim, fail, finish, renew
from store.moves import Fence, move


@pytest.fixture(params=["teachers", "datasets"])
def of(request: pytest.FixtureRequest):
    return {"teachers": teachers, "datasets": datasets}[request.param]


@pytest.fixture
def row(hand, of):
    return _create(hand, of)


def _create(hand, of):
    if of is teachers:
        return teachers.create(hand.db, hand.project, name="t", model=hand.model)
    return datasets.create(hand.db, hand.project, name="d", filename="d.zip")


def test_what_is_announced_waits_for_its_content(hand, of, row) -> None:
    kept = of.get(hand.db, hand.project, row.id)
    assert (kept.state, kept.state_detail, kept.blob_key) == ("pending", "Waiting for its content.", None)
    assert kept.created_at == row.created_at > 1.7e9
    assert claim(hand.db, "worker", 60) is None


def test_content_is_verified_before_distillations_run(hand, of, row) -> None:
    hand.submit(priority=10)
    attached = of.attach_upload(hand.db, hand.project, row.id, "uploads/a/1", "a" * 64, 7)
    assert (attached.blob_key, attached.upload_sha256, attached.upload_bytes) == ("uploads/a/1", "a" * 64, 7)
    assert (attached.state, attached.state_detail) == ("pending", "Waiting for verification.")
    assert attached.updated_at > attached.created_at
    job = hand.claim().job
    assert job.kind == f"verify_{of.__name__.removeprefix('store.').removesuffix('s')}"
    assert row.id in (job.teacher_id, job.dataset_id)


def test_a_verification_is_told_what_to_verify(hand) -> None:
    scale = Normalization(mean=(0.5,), std=(0.5,))
    teacher = teachers.create(hand.db, hand.project, name="t", model=hand.model, normalization=scale)
    assert teacher.normalization == {"mean": [0.5], "std": [0.5]}
    teachers.attach_upload(hand.db, hand.project, teacher.id, "uploads/a/1", "a" * 64, 7)
    assert VerifyTeacherRun.model_validate(hand.claim().job.run) == VerifyTeacherRun(model=hand.model)
    options = {"filename": "x.zip", "image_size": 16, "holdout_fraction": 0.25}
    dataset = datasets.create(hand.db, hand.project, name="d", **options)
    datasets.attach_upload(hand.db, hand.project, dataset.id, "uploads/a/1", "a" * 64, 7)
    assert VerifyDatasetRun.model_validate(hand.claim().job.run) == VerifyDatasetRun(**options)


def test_the_same_content_again_is_the_same_upload(hand, of, row) -> None:
    of.attach_upload(hand.db, hand.project, row.id, "uploads/a/1", "a" * 64, 7)
    again = of.attach_upload(hand.db, hand.project, row.id, "uploads/a/2", "a" * 64, 7)
    assert again.blob_key == "uploads/a/1"
    hand.claim()
    assert claim(hand.db, "worker", 60) is None, "one verification is enough"


def test_other_content_is_refused(hand, of, row) -> None:
    of.attach_upload(hand.db, hand.project, row.id, "uploads/a/1", "a" * 64, 7)
    with pytest.raises(AlreadyUploaded, match="create a new"):
        of.attach_upload(hand.db, hand.project, row.id, "uploads/a/2", "b" * 64, 7)
    assert of.get(hand.db, hand.project, row.id).upload_sha256 == "a" * 64


def test_of_many_uploads_at_once_one_is_taken(hand, of, row) -> None:
    gate = Barrier(6)

    def put(number: int) -> bool:
        gate.wait()
        try:
            of.attach_upload(hand.db, hand.project, row.id, f"uploads/a/{number}", f"{number:064}", 7)
        except AlreadyUploaded:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(put, range(6))).count(True) == 1
    hand.claim()
    assert claim(hand.db, "worker", 60) is None


def test_other_projects_and_the_deleted_are_not_found(hand, of, row) -> None:
    for touch in (of.get, of.delete):
        with pytest.raises(NotFound, match=row.id):
            touch(hand.db, "prj_other", row.id)
    with pytest.raises(NotFound):
        of.attach_upload(hand.db, "prj_other", row.id, "uploads/a/1", "a" * 64, 7)
    gone = of.delete(hand.db, hand.project, row.id)
    assert gone.deleted_at is not None
    for touch in (of.get, of.delete):
        with pytest.raises(NotFound):
            touch(hand.db, hand.project, row.id)
    assert of.list_(hand.db, hand.project).items == []


def test_lists_come_in_pages_newest_first(hand, of) -> None:
    made = [_create(hand, of).id for _ in range(5)]
    first = of.list_(hand.db, hand.project, limit=3)
    rest = of.list_(hand.db, hand.project, limit=3, cursor=first.next_cursor)
    assert [row.id for row in [*first.items, *rest.items]] == made[::-1]
    assert rest.next_cursor is None
    assert of.list_(hand.db, "prj_other").items == []
    with pytest.raises(BadCursor):
        of.list_(hand.db, hand.project, cursor="nonsense")


def test_what_a_job_needs_is_not_deleted(hand) -> None:
    teacher = hand.verified(teachers.create(hand.db, hand.project, name="t", model=hand.model))
    job = hand.submit(teacher_id=teacher.id)
    for of, id_ in ((teachers, teacher.id), (datasets, hand.ready_dataset)):
        with pytest.raises(InUse, match=job.id):
            of.delete(hand.db, hand.project, id_)
    jobs.request_cancel(hand.db, hand.project, job.id)
    teachers.delete(hand.db, hand.project, teacher.id)
    datasets.delete(hand.db, hand.project, hand.ready_dataset)


def test_deleting_cancels_a_verification_that_waits(hand, of, row) -> None:
    of.attach_upload(hand.db, hand.project, row.id, "uploads/a/1", "a" * 64, 7)
    of.delete(hand.db, hand.project, row.id)
    assert claim(hand.db, "worker", 60) is None


def test_deleting_stops_a_verification_that_runs(hand, of, row) -> None:
    of.attach_upload(hand.db, hand.project, row.id, "uploads/a/1", "a" * 64, 7)
    lease = hand.claim()
    of.delete(hand.db, hand.project, row.id)
    assert renew(hand.db, lease, 60) is Directive.CANCEL


def test_submits_race_with_deletes_and_no_job_lacks_its_dataset(hand) -> None:
    for _ in range(8):
        hand.__dict__.pop("ready_dataset", None)
        new = hand.new_job()
        gate = Barrier(2)

        def delete(dataset: str = new.dataset_id, gate: Barrier = gate) -> bool:
            gate.wait()
            try:
                datasets.delete(hand.db, hand.project, dataset)
            except InUse:
                return False
            return True

        def submit(new: jobs.NewJob = new, gate: Barrier = gate) -> bool:
            gate.wait()
            try:
                jobs.submit(hand.db, new)
            except NotFound:
                return False
            return True

        with ThreadPoolExecutor(2) as pool:
            deleted, submitted = pool.submit(delete), pool.submit(submit)
            assert deleted.result() != submitted.result()
        while lease := claim(hand.db, "worker", 60):
            finish(hand.db, lease, hand.report(_create(hand, datasets)), [])


def test_deletes_race_with_verifications_without_a_deadlock(hand, of) -> None:
    made = [_create(hand, of) for _ in range(10)]
    for row in made:
        of.attach_upload(hand.db, hand.project, row.id, "uploads/a/1", "a" * 64, 7)
    leases = [hand.claim() for _ in made]
    gate = Barrier(2)

    def delete_all() -> None:
        gate.wait()
        for row in made:
            of.delete(hand.db, hand.project, row.id)

    def finish_all() -> None:
        gate.wait()
        for lease in leases:
            kind = lease.job.kind.removeprefix("verify_")
            finish(hand.db, lease, hand.report(made[0]), [hand.file(kind)])

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(delete_all), pool.submit(finish_all)]:
            future.result()
    assert of.list_(hand.db, hand.project).items == []


def test_an_invalid_upload_says_why_and_can_not_be_used(hand, problem) -> None:
    dataset = datasets.create(hand.db, hand.project, name="d", filename="d.zip")
    datasets.attach_upload(hand.db, hand.project, dataset.id, "uploads/a/1", "a" * 64, 7)
    fail(hand.db, hand.claim(), [problem])
    with pytest.raises(NotReady, match="signal 9"):
        hand.submit(dataset_id=dataset.id)
    with pytest.raises(Conflict):
        hand.submit(dataset_id=dataset.id)


def test_an_ended_job_moves_nowhere(hand) -> None:
    job = hand.submit()
    ended = jobs.request_cancel(hand.db, hand.project, job.id)
    with (
        pytest.raises(ValueError, match="cannot go from 'cancelled' to 'running'"),
        hand.db.write() as session,
    ):
        move(session, Fence.of(ended), "running", [])
