"""From a change of state to a receiver: signed, tried again, once more on request."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
import standardwebhooks
from sqlalchemy import update

from api.delivery.signing import sign
from store.columns import unix_now
from store.deliveries import RETRY_SECONDS
from store.models import Delivery, Webhook

Refusal = Callable[..., dict[str, Any]]


def test_a_jobs_way_is_told_signed_by_the_specification(either: Any, hook_to: Any, receiver: Any) -> None:
    states = ("queued", "running", "succeeded")
    hook = hook_to(receiver, "dataset.ready", *(f"job.{state}" for state in states))
    job = either.submit(name="n")
    either.succeed(either.claim(), [])
    either.deliver()
    events = receiver.events(hook.secret)
    assert [event["type"] for event in events] == ["dataset.ready", *(f"job.{state}" for state in states)]
    told = events[-1]
    assert (told["data"]["id"], told["data"]["state"], told["data"]["name"]) == (job["id"], "succeeded", "n")
    assert set(told) == {"type", "timestamp", "data"}
    log = hook.log()
    assert [one["state"] for one in log] == ["succeeded"] * 4
    assert [one["event_id"] for one in log] == [one.id for one in receiver.received]
    assert [one["payload"] for one in log] == events
    assert {one["response_status"] for one in log} == {204}
    headers = receiver.received[0].headers
    assert headers["content-type"] == "application/json"
    assert headers["host"] == f"127.0.0.1:{receiver.port}"
    assert receiver.received[0].path == "/hook"
    with pytest.raises(standardwebhooks.webhooks.WebhookVerificationError):
        receiver.received[0].verified("whsec_" + "A" * 32)


def test_the_signature_is_that_of_the_reference_implementation() -> None:
    secret, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", '{"ä": 1}'
    moment = datetime(2021, 2, 25)  # noqa: DTZ001 - the library takes it as UTC
    theirs = standardwebhooks.Webhook(secret).sign("msg_1", moment, body)
    assert sign(secret, "msg_1", 1614211200, body) == theirs


def test_who_fails_some_times_is_told_in_the_end_under_one_id(
    either: Any, hook_to: Any, receiver: Any
) -> None:
    hook = hook_to(receiver)
    receiver.fail(500, 404, 503)
    receiver.fail(302, Location="http://127.0.0.1:1/elsewhere")
    id_ = hook.test()
    seen = []
    for _ in range(4):
        either.deliver()
        seen.append(hook.get(f"/deliveries/{id_}"))
        hook.let_wait_pass()
    assert [one["state"] for one in seen] == ["pending"] * 4
    assert [one["response_status"] for one in seen] == [500, 404, 503, 302]
    assert "Redirects are not followed" in seen[-1]["error"]
    assert all(one["next_attempt_at"] > one["attempted_at"] for one in seen)
    either.deliver()
    done = hook.get(f"/deliveries/{id_}")
    assert (done["state"], done["attempts"], done["response_status"], done["error"]) == (
        "succeeded",
        5,
        204,
        None,
    )
    assert done["next_attempt_at"] is None
    assert {one.id for one in receiver.received} == {done["event_id"]}
    assert len({one.body for one in receiver.received}) == 1
    assert len(receiver.events(hook.secret)) == 5


def test_who_never_accepts_is_given_up_and_told_again_on_request(
    either: Any, hook_to: Any, receiver: Any
) -> None:
    hook = hook_to(receiver)
    receiver.fail(*[500] * (len(RETRY_SECONDS) + 1))
    id_ = hook.test()
    for _ in range(len(RETRY_SECONDS) + 3):
        either.deliver()
        hook.let_wait_pass()
    failed = hook.get(f"/deliveries/{id_}")
    assert (failed["state"], failed["attempts"], failed["next_attempt_at"]) == (
        "failed",
        len(RETRY_SECONDS) + 1,
        None,
    )
    assert "500" in failed["error"]
    asked = hook.post(f"/deliveries/{id_}/redeliver")
    assert (asked.status_code, asked.json()["state"]) == (202, "pending")
    either.deliver()
    assert hook.get(f"/deliveries/{id_}")["state"] == "succeeded"
    hook.post(f"/deliveries/{id_}/redeliver")
    either.deliver()
    assert len(receiver.received) == len(RETRY_SECONDS) + 3
    assert len({one.id for one in receiver.received}) == 1


def test_410_disables_the_webhook(either: Any, hook_to: Any, receiver: Any, refusal: Refusal) -> None:
    hook = hook_to(receiver)
    receiver.fail(410)
    ids = [hook.test(), hook.test()]
    either.deliver()
    shown = hook.get()
    assert (shown["enabled"], shown["disabled_reason"]) == (False, "The receiver answered 410 Gone.")
    assert [one["state"] for one in hook.log()] == ["failed", "failed"]
    assert len(receiver.received) == 1
    either.submit()
    assert len(hook.log()) == 2
    for below in ("/test", f"/deliveries/{ids[0]}/redeliver"):
        problem = refusal(hook.post(below), 409, "conflict")
        assert problem["code"] == "webhook.disabled"


def test_both_secrets_verify_while_they_overlap(either: Any, hook_to: Any, receiver: Any) -> None:
    hook = hook_to(receiver)
    new = hook.post("/rotate-secret", overlap_seconds=3600).json()["secret"]
    hook.test()
    either.deliver()
    (received,) = receiver.received
    assert len(received.headers["webhook-signature"].split(" ")) == 2
    assert received.verified(hook.secret) == received.verified(new)
    with either.db.write() as session:
        row = session.get(Webhook, hook.path.rsplit("/", 1)[1])
        row.secrets = [one | {"until": one["until"] and 1.0} for one in row.secrets]
    hook.test()
    either.deliver()
    last = receiver.received[-1]
    assert last.verified(new)["type"] == "webhook.test"
    with pytest.raises(standardwebhooks.webhooks.WebhookVerificationError):
        last.verified(hook.secret)


def test_a_timestamp_is_that_of_the_attempt(either: Any, hook_to: Any, receiver: Any) -> None:
    hook = hook_to(receiver)
    hook.test()
    with either.db.write() as session:
        session.execute(update(Delivery).values(created_at=unix_now() - 3600))
    either.deliver()
    assert receiver.events(hook.secret), "the receiver's tolerance is five minutes"


def test_a_receiver_that_does_not_answer_or_not_end_holds_nobody_up(
    either: Any, hook_to: Any, receivers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent, endless, quick = receivers(), receivers(), receivers()
    silent.open.clear()
    endless.endless = True
    hooks = [hook_to(one) for one in (silent, endless, quick)]
    for hook in hooks:
        hook.test()
        hook.test()
    monkeypatch.setattr(either.settings, "webhook_timeout_seconds", 1.0)
    either.deliver()
    logs = [hook.log() for hook in hooks]
    assert [one["state"] for one in logs[0]] == ["pending"] * 2
    assert logs[0][0]["error"] == "There was no answer within 1 s."
    assert [[one["state"] for one in log] for log in logs[1:]] == [["succeeded"] * 2] * 2


def test_nobody_there_is_told_in_the_log(either: Any, hook_to: Any, receivers: Any) -> None:
    gone = receivers()
    hook = hook_to(gone)
    gone.close()
    hook.test()
    either.deliver()
    (one,) = hook.log()
    assert (one["state"], one["response_status"]) == ("pending", None)
    assert "ConnectError" in one["error"]


def test_nothing_of_a_secret_is_in_a_log(
    either: Any, hook_to: Any, receiver: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="api")
    caplog.set_level("DEBUG", logger="store")
    hook = hook_to(receiver)
    new = hook.post("/rotate-secret", overlap_seconds=60).json()["secret"]
    receiver.fail(500)
    hook.test()
    either.deliver()
    told = caplog.text + json.dumps(hook.get()) + json.dumps(hook.log())
    for secret in (hook.secret, new):
        assert secret.removeprefix("whsec_") not in told
