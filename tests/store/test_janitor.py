"""The janitor: old files that no row speaks of go, the young and the needed stay, and one process does it."""

import os
import time
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import update

from store import audit, datasets, janitor, part_uploads, shared_answers
from store.answer_models import SharedAnswers
from store.blobs import LocalBlobs
from store.janitor import Cleaned

DAY = 86400.0
clean = partial(
    janitor.clean,
    every_seconds=0.0,
    orphan_seconds=DAY,
    audit_seconds=DAY,
    answers_seconds=DAY,
    answers_bytes=10,
)


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobs:
    return LocalBlobs(tmp_path)


def _put(blobs: LocalBlobs, key: str, age: float) -> str:
    with blobs.writer(key) as out:
        out.write(b"x")
        out.commit()
    _age(blobs.root / key, age)
    return key


def _age(path: Path, age: float) -> None:
    os.utime(path, (time.time() - age,) * 2)


def test_old_orphans_go(hand, blobs: LocalBlobs) -> None:
    dataset = datasets.create(hand.db, hand.project, name="d", filename="d.zip")
    needed = _put(blobs, "uploads/a/1", 2 * DAY)
    datasets.attach_upload(hand.db, hand.project, dataset.id, needed, "a" * 64, 1)
    young = _put(blobs, "uploads/b/1", DAY / 2)
    _put(blobs, "jobs/gone/1/student.safetensors", 2 * DAY)
    with blobs.writer("uploads/c/1") as half:
        half.write(b"half")
        (writing,) = (path for path in blobs.root.rglob(".*") if path.is_file())
        assert clean(hand.db, blobs) == Cleaned(0, 1)
        assert writing.exists()
        _age(writing, 2 * DAY)
        clean(hand.db, blobs)
        assert not writing.exists(), "its writer has been dead for a day"
    assert sorted(blobs.list("")) == [needed, young]


def test_the_parts_of_expired_uploads_go_at_once(hand, blobs: LocalBlobs) -> None:
    for number in range(3):
        upload, _ = part_uploads.create(
            hand.db, hand.project, size_bytes=1, part_bytes=1, sha256=None, keep_seconds=-1 if number else DAY
        )
        with blobs.writer(f"uploads/{upload.id}/1/1") as out:
            blob = out.commit()
        part_uploads.add_part(hand.db, hand.project, upload.id, 1, blob, -1 if number else DAY)
    assert clean(hand.db, blobs) == Cleaned(2, 0)
    assert len(list(blobs.list(""))) == 1


def test_once_in_a_while_is_enough(hand, blobs: LocalBlobs) -> None:
    clean(hand.db, blobs, every_seconds=3600.0)
    _put(blobs, "a", 2 * DAY)
    assert clean(hand.db, blobs, every_seconds=3600.0) == Cleaned(0, 0)
    assert list(blobs.list("")) == ["a"]


def test_old_entries_of_the_audit_log_are_forgotten(hand, blobs: LocalBlobs) -> None:
    entry = {"project_id": "prj_1", "operation": "create_job", "status": 201, "request_id": "r"}
    ages = {"aud_old": 2 * DAY, "aud_new": 0.5 * DAY}
    audit.record(hand.db, [entry | {"id": id_, "time": time.time() - age} for id_, age in ages.items()])
    clean(hand.db, blobs)
    assert [one.id for one in audit.list_entries(hand.db, "prj_1").items] == ["aud_new"]


def _share(hand, blobs: LocalBlobs, name: str, size: int, unused: float = 0.0) -> str:
    key = shared_answers.new_key(hand.project, "s")
    with blobs.writer(key) as out:
        out.write(b"x" * size)
        shared_answers.add(hand.db, hand.project, "s", name, out.commit())
    with hand.db.write() as session:
        row = SharedAnswers
        session.execute(update(row).where(row.name == name).values(used_at=row.used_at - unused))
    return key


def test_answers_go_when_nobody_fetched_them_for_long(hand, blobs: LocalBlobs) -> None:
    _share(hand, blobs, "old", 1, unused=2 * DAY)
    kept = [_share(hand, blobs, "young", 1, unused=DAY / 2), _share(hand, blobs, "used", 1, unused=2 * DAY)]
    (used,) = (row for row in shared_answers.find(hand.db, hand.project, "s") if row.name == "used")
    shared_answers.touch(hand.db, used.id)
    assert clean(hand.db, blobs) == Cleaned(0, 0, answers=1)
    assert sorted(blobs.list("")) == sorted(kept)
    assert clean(hand.db, blobs) == Cleaned(0, 0)


def test_answers_that_are_too_much_go_the_longest_unused_first(hand, blobs: LocalBlobs) -> None:
    names = [str(number) for number in range(250)]  # more than are forgotten at once
    keys = [_share(hand, blobs, name, 1, unused=1000.0 - int(name)) for name in names]
    assert clean(hand.db, blobs) == Cleaned(0, 0, answers=240)
    assert sorted(blobs.list("")) == sorted(keys[-10:])
    assert {row.blob_key for row in shared_answers.find(hand.db, hand.project, "s")} == set(keys[-10:])


def test_the_files_of_answers_are_no_orphans(hand, blobs: LocalBlobs) -> None:
    key = _share(hand, blobs, "known", 1)
    _age(blobs.root / key, 2 * DAY)
    lost = _put(blobs, "answers/prj/s/ans_1", 2 * DAY)
    assert clean(hand.db, blobs) == Cleaned(0, 1)
    assert list(blobs.list("")) == [key]
    assert not blobs.exists(lost)
