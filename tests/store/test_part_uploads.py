"""Uploads in parts: each part counts once, the whole is what was hashed, and it is kept while somebody needs it."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import update

from abcore.specs.refusals import Problem
from store import datasets, part_uploads, references, teachers
from store.blobs import Blob
from store.errors import InUse, NotFound, PartMissing, UnknownUpload, UploadComplete, UploadOpen
from store.leases import fail
from store.upload_models import PartUpload

KEEP = 3600.0
PROBLEM = Problem(code="archive.damaged", message="It is no archive.")
WHOLE = "c" * 64


@pytest.fixture
def make(hand):
    def begin(**changes):
        given = {"size_bytes": 25, "part_bytes": 10, "sha256": WHOLE, "keep_seconds": KEEP}
        return part_uploads.create(hand.db, hand.project, **given | changes)

    return begin


@pytest.fixture
def send(hand):
    def part(upload, number: int, content: str = "a", name: str = "1"):
        blob = Blob(f"uploads/{upload.id}/{number}/{name}", content * 64, upload.bytes_of(number))
        return part_uploads.add_part(hand.db, hand.project, upload.id, number, blob, KEEP)

    return part


@pytest.fixture
def complete(hand, make, send):
    def whole(**changes):
        upload, _ = make(**changes)
        keys = [send(upload, number).part.blob_key for number in range(1, upload.num_parts + 1)]
        return part_uploads.complete(hand.db, hand.project, upload.id, WHOLE, keys, KEEP)

    return whole


def _let_expire(hand) -> None:
    with hand.db.write() as session:
        session.execute(update(PartUpload).values(expires_at=1.0))


def test_the_parts_of_a_file(make) -> None:
    upload, new = make()
    assert (new, upload.state, upload.num_parts) == (True, "open", 3)
    assert [upload.bytes_of(number) for number in (1, 2, 3)] == [10, 10, 5]
    even, _ = make(size_bytes=20, sha256="d" * 64)
    assert (even.num_parts, even.bytes_of(2)) == (2, 10)
    assert upload.expires_at == pytest.approx(upload.created_at + KEEP, abs=60)


def test_what_was_begun_is_gone_on_with(hand, make, complete) -> None:
    begun, _ = make()
    again, new = make(part_bytes=5)
    assert (again.id, new) == (begun.id, False)
    assert again.part_bytes == 10, "parts that have arrived must go on fitting"
    assert make(size_bytes=26)[1], "another size is another file"
    assert make(sha256=None)[1]
    assert make(sha256=None)[1], "nobody knows whether it is the same"
    whole = complete()
    assert whole.id == begun.id
    again, new = make()
    assert (again.id, again.state, new) == (begun.id, "complete", False)


def test_a_part_counts_once_and_other_content_replaces_it(hand, make, send) -> None:
    upload, _ = make()
    first = send(upload, 2)
    assert first.superseded is None
    again = send(upload, 2, name="2")
    assert (again.part.blob_key, again.superseded) == (first.part.blob_key, f"uploads/{upload.id}/2/2")
    other = send(upload, 2, content="b", name="3")
    assert (other.part.sha256, other.superseded) == ("b" * 64, first.part.blob_key)
    assert [(part.number, part.sha256) for part in part_uploads.parts(hand.db, upload.id)] == [(2, "b" * 64)]
    assert part_uploads.find_part(hand.db, upload.id, 2, "b" * 64) is not None
    assert part_uploads.find_part(hand.db, upload.id, 2, "a" * 64) is None
    keys = [first.part.blob_key, other.part.blob_key]
    assert references.referenced(hand.db, keys) == {other.part.blob_key}


def test_of_one_part_sent_many_times_at_once_one_blob_stays(hand, make, send) -> None:
    upload, _ = make()
    gate = Barrier(6)

    def put(number: int) -> str | None:
        gate.wait()
        return send(upload, 1, name=str(number)).superseded

    with ThreadPoolExecutor(6) as pool:
        dropped = list(pool.map(put, range(6)))
    (kept,) = part_uploads.parts(hand.db, upload.id)
    assert sorted(key for key in dropped if key) == sorted(
        {f"uploads/{upload.id}/1/{number}" for number in range(6)} - {kept.blob_key}
    )


def test_only_what_was_hashed_is_complete(hand, make, send) -> None:
    upload, _ = make()
    hashed = [send(upload, number).part.blob_key for number in (1, 2, 3)]
    send(upload, 2, content="b", name="2")
    with pytest.raises(PartMissing, match="replaced"):
        part_uploads.complete(hand.db, hand.project, upload.id, WHOLE, hashed, KEEP)
    assert part_uploads.get(hand.db, hand.project, upload.id).state == "open"


def test_what_is_complete_changes_no_more(hand, complete, send) -> None:
    upload = complete()
    assert send(upload, 1, name="9").superseded.endswith("/9"), "the same content is welcome still"
    with pytest.raises(UploadComplete):
        send(upload, 1, content="b")
    assert part_uploads.find_content(hand.db, hand.project, WHOLE).id == upload.id
    assert part_uploads.find_content(hand.db, "prj_other", WHOLE) is None


def test_several_are_made_of_one_upload(hand, complete) -> None:
    upload = complete()
    dataset = datasets.create(hand.db, hand.project, name="d", filename="d.zip")
    teacher = teachers.create(hand.db, hand.project, name="t", model=hand.model)
    for room, row in ((datasets, dataset), (teachers, teacher)):
        attached = room.attach_parts(hand.db, hand.project, row.id, upload.id, KEEP)
        assert (attached.upload_sha256, attached.upload_bytes) == (WHOLE, 25)
        assert (attached.upload_id, attached.blob_key) == (upload.id, None)
        room.attach_parts(hand.db, hand.project, row.id, upload.id, KEEP)
    assert [hand.claim().job.kind for _ in range(2)] == ["verify_dataset", "verify_teacher"]


def test_what_is_not_whole_or_not_ours_is_not_taken(hand, make) -> None:
    upload, _ = make()
    dataset = datasets.create(hand.db, hand.project, name="d", filename="d.zip")
    with pytest.raises(UploadOpen):
        datasets.attach_parts(hand.db, hand.project, dataset.id, upload.id, KEEP)
    for ask in (
        lambda: part_uploads.get(hand.db, "prj_other", upload.id),
        lambda: part_uploads.remove(hand.db, "prj_other", upload.id),
        lambda: part_uploads.complete(hand.db, "prj_other", upload.id, WHOLE, [], KEEP),
        lambda: datasets.attach_parts(hand.db, "prj_other", dataset.id, upload.id, KEEP),
    ):
        with pytest.raises(NotFound):
            ask()
    with pytest.raises(UnknownUpload):
        datasets.attach_parts(hand.db, hand.project, dataset.id, "up_none", KEEP)


def test_what_is_to_be_read_is_kept_and_what_was_read_may_go(hand, complete) -> None:
    upload = complete()
    keys = [part.blob_key for part in part_uploads.parts(hand.db, upload.id)]
    dataset = datasets.create(hand.db, hand.project, name="d", filename="d.zip")
    datasets.attach_parts(hand.db, hand.project, dataset.id, upload.id, KEEP)
    _let_expire(hand)
    assert part_uploads.expire(hand.db) == []
    with pytest.raises(InUse):
        part_uploads.remove(hand.db, hand.project, upload.id)
    fail(hand.db, hand.claim(), [PROBLEM])
    assert references.referenced(hand.db, keys) == set(keys)
    assert part_uploads.expire(hand.db) == keys
    assert references.referenced(hand.db, keys) == set()
    assert datasets.get(hand.db, hand.project, dataset.id).upload_id is None
    with pytest.raises(NotFound):
        part_uploads.get(hand.db, hand.project, upload.id)


def test_only_what_nobody_used_expires(hand, make, send) -> None:
    upload, _ = make()
    assert part_uploads.expire(hand.db) == []
    _let_expire(hand)
    send(upload, 1)
    assert part_uploads.expire(hand.db) == [], "who sends goes on"
    assert part_uploads.remove(hand.db, hand.project, upload.id) == [f"uploads/{upload.id}/1/1"]
