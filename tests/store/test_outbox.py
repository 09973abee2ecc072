"""What webhooks are told is written with the change itself: for each that was committed, and for no other."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from abcore.specs.refusals import Problem
from abcore.specs.runs import TrainTeacherRun
from store import datasets, jobs, leases, teachers, webhooks
from store.models import Delivery, Project, Webhook
from store.moves import Fence, NewEvent, move
from store.outbox import EVENT_TYPES

PROBLEM = Problem(code="checkpoint.shape", message="The shape is wrong.")


@pytest.fixture
def told(hand):
    """A webhook that asks for everything, and a way to read what it is to be told, in order."""
    hook, _ = webhooks.create(
        hand.db, hand.project, url="https://example.com/", events=list(EVENT_TYPES), most=9
    )

    def read(webhook: Webhook = hook) -> list[dict[str, Any]]:
        rows = select(Delivery).where(Delivery.webhook_id == webhook.id)
        with hand.db.read() as session:
            found = list(session.scalars(rows.order_by(Delivery.created_at, Delivery.event_id)))
        events = [json.loads(row.body) for row in found]
        assert [row.type for row in found] == [event["type"] for event in events]
        return events

    read.webhook = hook
    return read


def _types(told, about: str) -> list[str]:
    return [event["type"] for event in told() if event["data"]["id"] == about]


def test_every_state_that_a_job_comes_to_is_told(hand, told) -> None:
    job = hand.submit(name="n", labels={"team": "a"})
    leases.crash(hand.db, hand.claim(), PROBLEM, "")
    jobs.request_pause(hand.db, hand.project, job.id)
    jobs.resume(hand.db, hand.project, job.id)
    leases.finish(
        hand.db, hand.claim(), hand.report(datasets.get(hand.db, hand.project, hand.ready_dataset)), []
    )
    states = ["queued", "running", "queued", "paused", "queued", "running", "succeeded"]
    assert _types(told, job.id) == [f"job.{state}" for state in states]
    last = [event for event in told() if event["data"]["id"] == job.id][-1]
    assert last["data"] == {
        "object": "job",
        "id": job.id,
        "kind": "distill",
        "state": "succeeded",
        "reason": None,
        "name": "n",
        "labels": {"team": "a"},
        "teacher": None,
        "dataset": hand.ready_dataset,
        "attempts": 2,
    }
    assert last["timestamp"].endswith("Z")


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_a_bad_end_is_told_with_its_reason(hand, told, end: str) -> None:
    job = hand.submit()
    if end == "failed":
        leases.fail(hand.db, hand.claim(), [PROBLEM])
    else:
        jobs.request_cancel(hand.db, hand.project, job.id)
    assert _types(told, job.id)[-1] == f"job.{end}"
    assert told()[-1]["data"]["reason"] == hand.get(job).state_reason


@pytest.mark.parametrize("of", [teachers, datasets])
@pytest.mark.parametrize("good", [True, False])
def test_a_verified_upload_is_told_and_its_verification_is_not(hand, told, of, good: bool) -> None:
    row = (
        teachers.create(hand.db, hand.project, name="t", model=hand.model)
        if of is teachers
        else datasets.create(hand.db, hand.project, name="d", filename="d.zip")
    )
    assert told() == []
    if good:
        hand.verified(row)
    else:
        of.attach_upload(hand.db, hand.project, row.id, "uploads/x/1", "1" * 64, 3)
        leases.fail(hand.db, hand.claim(), [PROBLEM])
    kind, state = "teacher" if of is teachers else "dataset", "ready" if good else "invalid"
    (event,) = told()
    reason = None if good else PROBLEM.message
    data = {"object": kind, "id": row.id, "state": state, "reason": reason, "name": row.name}
    assert (event["type"], event["data"]) == (f"{kind}.{state}", data)


def test_of_a_teacher_that_is_trained_here_both_the_job_and_the_teacher_are_told(hand, told) -> None:
    run = TrainTeacherRun(model=hand.model, normalization=hand.run.normalization, recipe=hand.run.recipe)
    made = {
        "name": "t",
        "dataset_id": hand.ready_dataset,
        "run": run,
        "spec": {},
        "plan": {},
        "work_macs": 1.0,
    }
    teacher = teachers.train(hand.db, hand.project, **made)
    leases.fail(hand.db, hand.claim(), [PROBLEM])
    states = [f"job.{state}" for state in ("queued", "running", "failed")]
    assert _types(told, teacher.training_job_id) == states
    assert {e["data"]["kind"] for e in told() if e["data"]["object"] == "job"} == {"teacher.train"}
    assert _types(told, teacher.id) == ["teacher.invalid"]


def test_only_what_was_asked_for_is_told_and_only_to_ones_own_project(hand, told) -> None:
    with hand.db.write() as session:
        session.add(Project(id="prj_other", name="other"))
    create = {"url": "https://example.com/", "most": 9}
    some, _ = webhooks.create(hand.db, hand.project, events=["job.running"], **create)
    other, _ = webhooks.create(hand.db, "prj_other", events=list(EVENT_TYPES), **create)
    off, _ = webhooks.create(hand.db, hand.project, events=list(EVENT_TYPES), **create)
    webhooks.change(hand.db, hand.project, off.id, {"enabled": False})
    hand.submit()
    hand.claim()
    assert [event["type"] for event in told(some)] == ["job.running"]
    assert (told(other), told(off)) == ([], [])
    with hand.db.read() as session:
        ids = session.scalars(select(Delivery.event_id).where(Delivery.type == "job.running")).all()
    assert len(ids) == 2
    assert len(set(ids)) == 1, "one event has one id, however many are told"


def test_a_change_that_is_rolled_back_is_not_told(hand, told) -> None:
    job = hand.submit()
    before = told()
    with hand.db.write() as session:
        move(session, Fence.of(job), "cancelled", [NewEvent("job.cancelled", "x")])
        session.rollback()
    assert hand.get(job).state == "queued"
    assert told() == before


def test_a_reason_of_any_length_and_content_is_told_in_brief(hand, told) -> None:
    hand.submit()
    leases.fail(hand.db, hand.claim(), [Problem(code="x", message="\0\ud800" + "y" * 5000)])
    assert len(told()[-1]["data"]["reason"]) == 1001


_KILLED = """
import os, signal, sys
from store import jobs
from store.database import Database
jobs.request_cancel(Database(sys.argv[1]), sys.argv[2], sys.argv[3])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_who_is_killed_right_after_the_commit_has_told(hand, told) -> None:
    job = hand.submit()
    url = hand.db.url.render_as_string(hide_password=False)
    arguments = [sys.executable, "-c", _KILLED, url, hand.project, job.id]
    killed = subprocess.run(arguments, cwd=Path(__file__).parents[2], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert _types(told, job.id) == ["job.queued", "job.cancelled"]
