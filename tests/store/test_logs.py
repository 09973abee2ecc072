"""Logs of jobs: whole lines, in order, over attempts; the end of a long one; gone with the job."""

import pytest
from sqlalchemy import func, select

from abcore.specs.refusals import Problem
from store import job_changes, logs
from store.errors import LeaseLost, NotFound
from store.job_models import LogChunk
from store.leases import fail, requeue


def _text(parts: list[logs.LogPart]) -> str:
    return "".join(part.text for part in parts)


def test_parts_are_numbered_and_placed_over_all_attempts(hand) -> None:
    job = hand.submit()
    lease = hand.claim()
    logs.append(hand.db, lease, ["één\n", "two\nthree\n"])
    requeue(hand.db, lease, "stopping")
    with pytest.raises(LeaseLost):
        logs.append(hand.db, lease, ["too late\n"])
    logs.append(hand.db, hand.claim(), ["four\n"])
    parts = logs.read(hand.db, hand.project, job.id)
    assert [(part.seq, part.position, part.attempt, part.text) for part in parts] == [
        (1, 0, 1, "één\n"),
        (2, 6, 1, "two\nthree\n"),
        (3, 16, 2, "four\n"),
    ]
    assert logs.read(hand.db, hand.project, job.id, after_seq=1, limit=1) == parts[1:2]
    with pytest.raises(NotFound):
        logs.read(hand.db, "prj_other", job.id)


def test_the_last_lines_begin_in_the_middle_of_a_part(hand) -> None:
    job = hand.submit()
    logs.append(hand.db, hand.claim(), ["één\ntwo\n", "three\nfour\n"])
    parts = logs.tail(hand.db, hand.project, job.id, 3)
    assert [(part.seq, part.position, part.text) for part in parts] == [
        (1, 6, "two\n"),
        (2, 10, "three\nfour\n"),
    ]
    assert _text(logs.tail(hand.db, hand.project, job.id, 1)) == "four\n"
    assert _text(logs.tail(hand.db, hand.project, job.id, 99)) == "één\ntwo\nthree\nfour\n"


def test_of_a_long_log_the_end_is_kept_and_nothing_after_the_job(hand, monkeypatch) -> None:
    monkeypatch.setattr("store.logs.KEPT_BYTES", 30)
    job = hand.submit()
    lease = hand.claim()
    for number in range(10):
        logs.append(hand.db, lease, [f"line {number}.....\n"])
    parts = logs.read(hand.db, hand.project, job.id)
    assert [part.seq for part in parts] == [9, 10]
    assert parts[0].position == 8 * 12
    fail(hand.db, lease, [Problem(code="test", message="Over.")])
    job_changes.delete_job(hand.db, hand.project, job.id)
    with hand.db.read() as session:
        assert session.scalar(select(func.count()).select_from(LogChunk)) == 0
