"""Polls: answered from memory, for whom, and for how long."""

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from api import polls
from api.polls import KEEP_SECONDS, RENEW_SECONDS, Answer, Asked, Polls
from api.routes import jobs
from store.keys import create_key, revoke_key
from store.models import DEFAULT_PROJECT

FIRST = Asked(b"key", "/v1/jobs/1", 100.0, 7)
ANSWER = Answer(b'{"id": 1}')


@pytest.fixture
def for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers are kept for longer than a test takes."""
    monkeypatch.setattr(polls, "KEEP_SECONDS", 3600.0)
    monkeypatch.setattr(polls, "RENEW_SECONDS", 3600.0)


@pytest.fixture
def kept() -> Polls:
    """One answer, kept."""
    kept = Polls()
    kept.keep(FIRST, ANSWER)
    return kept


def test_an_answer_is_kept_for_its_question_and_its_asker(kept: Polls) -> None:
    assert kept.find(FIRST) is ANSWER
    assert kept.find(FIRST._replace(path="/v1/jobs/2")) is None
    assert kept.find(FIRST._replace(who=b"another")) is None


def test_an_answer_is_too_old_after_its_time_or_a_commit_of_this_process(kept: Polls) -> None:
    assert kept.find(FIRST._replace(time=FIRST.time + KEEP_SECONDS)) is None
    assert kept.find(FIRST._replace(commit=8)) is None


def test_one_asker_renews_an_answer_while_the_others_get_the_old_one(kept: Polls) -> None:
    late = FIRST._replace(time=FIRST.time + RENEW_SECONDS)
    assert [kept.find(late) for _ in range(3)] == [None, ANSWER, ANSWER]
    kept.keep(late, newer := Answer(b"newer"))
    assert kept.find(late) is newer


def test_answers_that_are_too_old_and_those_beyond_the_limit_are_let_go(
    kept: Polls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polls, "MOST_BYTES", 100)
    late = FIRST._replace(path="/late", time=FIRST.time + 2 * KEEP_SECONDS)
    kept.keep(late, Answer(b"x" * 60))
    assert len(kept._answers) == 1
    kept.keep(late._replace(path="/later"), Answer(b"x" * 60))
    assert kept.find(late) is None
    assert kept._bytes == 60


@pytest.mark.usefixtures("for_long")
def test_polls_are_answered_without_a_look_at_the_job(service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"/v1/jobs/{service.submit()['id']}"
    looks, real = [], jobs._look

    def look(*about: Any) -> Any:
        looks.append(about)
        return real(*about)

    monkeypatch.setattr(jobs, "_look", look)
    answers = [service.client.get(path) for _ in range(20)]
    assert len(looks) < len(answers)  # the sweeper may have written meanwhile
    assert {answer.content for answer in answers} == {answers[0].content}
    assert len({answer.headers["X-Request-ID"] for answer in answers}) == len(answers)
    assert answers[-1].headers.get_list("X-Frame-Options") == ["DENY"]
    known = {"If-None-Match": answers[0].headers["ETag"]}
    unchanged = [service.client.get(path, headers=known) for _ in range(20)]
    assert {(answer.status_code, answer.content) for answer in unchanged} == {(304, b"")}
    assert len(looks) < len(answers)


@pytest.mark.usefixtures("for_long")
def test_who_writes_through_the_service_reads_what_was_written(either: Any) -> None:
    path = f"/v1/jobs/{either.submit()['id']}"
    assert either.client.get(path).json()["state"] == "queued"
    either.client.post(f"{path}/cancel")
    assert either.client.get(path).json()["state"] == "cancelled"


@pytest.mark.usefixtures("for_long")
def test_a_kept_answer_is_for_its_key_alone(service: Any, refusal: Callable[..., Any]) -> None:
    path = f"/v1/jobs/{service.submit()['id']}"
    stranger = service.key_of_another_project()
    key, secret = create_key(service.db, DEFAULT_PROJECT, "short-lived")
    with service.client_of(secret) as mine, service.client_of(stranger) as theirs:
        assert mine.get(path).status_code == 200
        refusal(theirs.get(path), 404, "not-found")
        assert mine.get(path).status_code == 200
        revoke_key(service.db, DEFAULT_PROJECT, key.id)
        refusal(mine.get(path), 401, "unauthenticated")


def test_what_another_process_wrote_is_seen_when_the_time_is_over(
    service: Any, wait_for: Callable[[Callable[[], Any]], Any]
) -> None:
    job = service.submit()["id"]
    assert service.client.get(f"/v1/jobs/{job}").json()["name"] is None
    with sqlite3.connect(service.db.url.database) as elsewhere:  # not a transaction that this process counts
        elsewhere.execute("UPDATE jobs SET name = 'renamed' WHERE id = ?", (job,))
    elsewhere.close()
    wait_for(lambda: service.client.get(f"/v1/jobs/{job}").json()["name"] == "renamed")
