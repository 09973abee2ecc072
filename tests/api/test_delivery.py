"""From a change of state to a receiver: signed, tried again, once more on request, and not lost with any process."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
from sqlalchemy import update

from api.delivery.deliverer import Deliverer
from api.delivery.signing import sign
from store import deliveries
from store.columns import unix_now
from store.deliveries import RETRY_SECONDS
from store.models import Delivery, Webhook
from store.settings import Settings

Refusal = Callable[..., dict[str, Any]]
ROOT = Path(__file__).parents[2]


class Hook:
    """A webhook that leads to a receiver, and its log."""

    def __init__(self, service: Any, url: str, events: list[str]) -> None:
        self._service = service
        made = service.client.post("/v1/webhooks", json={"url": url, "events": events}).json()
        self.secret: str = made["secret"]
        self.path = f"/v1/webhooks/{made['id']}"

    def post(self, below: str, **body: Any) -> Any:
        return self._service.client.post(self.path + below, **({"json": body} if body else {}))

    def get(self, below: str = "") -> dict[str, Any]:
        found: dict[str, Any] = self._service.client.get(self.path + below).json()
        return found

    def log(self) -> list[dict[str, Any]]:
        """Oldest first."""
        return list(self.get("/deliveries")["data"])[::-1]

    def test(self) -> str:
        return str(self.post("/test").json()["id"])

    def let_wait_pass(self) -> None:
        with self._service.db.write() as session:
            past = {"next_attempt_at": unix_now() - 1, "lease_expires_at": None}
            session.execute(update(Delivery).where(Delivery.state == "pending").values(past))


@pytest.fixture
def hook_to(either: Any) -> Iterator[Callable[..., Hook]]:
    """Makes webhooks that are gone after the test."""
    made: list[Hook] = []

    def make(receiver: Any, *events: str) -> Hook:
        made.append(Hook(either, receiver.url, list(events) or ["job.queued"]))
        return made[-1]

    yield make
    for hook in made:
        either.client.delete(hook.path)


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


def test_many_deliverers_send_each_once(either: Any, hook_to: Any, receivers: Any) -> None:
    there = [receivers() for _ in range(3)]
    hooks = [hook_to(one) for one in there]
    for hook in hooks:
        for _ in range(4):
            hook.test()

    async def together() -> None:
        await asyncio.gather(*(Deliverer(either.db, either.settings).deliver_due() for _ in range(3)))

    asyncio.run(together())
    either.deliver()
    for hook, receiver in zip(hooks, there, strict=True):
        assert sorted(one.id for one in receiver.received) == sorted(one["event_id"] for one in hook.log())


def test_a_look_that_is_overtaken_by_the_end_of_an_attempt_is_not_the_last(
    either: Any, hook_to: Any, receiver: Any, wait_for: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = hook_to(receiver)
    ids = [hook.test(), hook.test()]
    genuine = deliveries.claim

    def claim(*arguments: Any) -> Any:
        found = genuine(*arguments)
        if found is None:  # the answer is on its way while what it speaks of goes on
            wait_for(lambda: hook.get(f"/deliveries/{ids[0]}")["state"] == "succeeded")
        return found

    monkeypatch.setattr(deliveries, "claim", claim)
    either.deliver()
    assert [one["state"] for one in hook.log()] == ["succeeded"] * 2


_DELIVERER = """
import asyncio, sys
from api.delivery.deliverer import Deliverer
from store.database import Database
from store.settings import Settings
settings = Settings(database_url=sys.argv[1], webhook_allow_http=True, webhook_allow_private=True)
asyncio.run(Deliverer(Database(settings.database_url), settings).deliver_due())
"""


def test_an_event_survives_the_death_of_who_is_sending_it(either: Any, hook_to: Any, receiver: Any) -> None:
    hook = hook_to(receiver)
    job = either.submit()
    receiver.open.clear()
    url = either.db.url.render_as_string(hide_password=False)
    with subprocess.Popen([sys.executable, "-c", _DELIVERER, url], cwd=ROOT) as sending:
        receiver.wait_for(1)
        os.kill(sending.pid, signal.SIGKILL)
    receiver.open.set()
    either.deliver()
    assert len(receiver.received) == 1, "its lease is still good"
    with either.db.write() as session:
        session.execute(update(Delivery).values(lease_expires_at=unix_now() - 1))
    either.deliver()
    events = receiver.events(hook.secret)
    assert [event["data"]["id"] for event in events] == [job["id"]] * 2
    assert len({one.id for one in receiver.received}) == 1, (
        "so that the receiver can tell that it is the same"
    )
    (one,) = hook.log()
    assert (one["state"], one["attempts"]) == ("succeeded", 2)


def test_a_deliverer_that_is_stopped_leaves_what_it_was_sending_to_the_next(
    either: Any, hook_to: Any, receiver: Any
) -> None:
    hook = hook_to(receiver)
    hook.test()
    receiver.open.clear()

    settings: Settings = either.settings.model_copy(update={"webhook_poll_seconds": 0.02})

    async def begin_and_stop() -> None:
        deliverer = Deliverer(either.db, settings)
        deliverer.start()
        await asyncio.to_thread(receiver.wait_for, 1)
        await deliverer.close()

    asyncio.run(begin_and_stop())
    receiver.open.set()
    either.deliver()
    assert hook.log()[0]["state"] == "succeeded"
    assert len(receiver.received) == 2


def test_the_api_delivers_by_itself_and_forgets_old_entries(either: Any, hook_to: Any, receiver: Any) -> None:
    hook = hook_to(receiver)
    old = hook.test()
    with either.db.write() as session:
        past = {"created_at": unix_now() - 40 * 86400, "state": "failed"}
        session.execute(update(Delivery).where(Delivery.id == old).values(past))
    hook.test()
    settings: Settings = either.settings.model_copy(update={"webhook_poll_seconds": 0.02})

    async def run() -> None:
        deliverer = Deliverer(either.db, settings)
        deliverer.start()
        await asyncio.to_thread(receiver.wait_for, 1)
        await asyncio.to_thread(hook.test)
        await asyncio.to_thread(receiver.wait_for, 2)
        await deliverer.close()

    asyncio.run(run())
    assert old not in [one["id"] for one in hook.log()]


def test_a_database_that_is_away_for_a_while_stops_nobody(
    either: Any, hook_to: Any, receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = hook_to(receiver)
    hook.test()
    genuine, left = deliveries.claim, [OSError("away"), OSError("away")]

    def claim(*arguments: Any) -> Any:
        if left:
            raise left.pop()
        return genuine(*arguments)

    monkeypatch.setattr(deliveries, "claim", claim)
    settings: Settings = either.settings.model_copy(update={"webhook_poll_seconds": 0.02})

    async def run() -> None:
        deliverer = Deliverer(either.db, settings)
        deliverer.start()
        await asyncio.to_thread(receiver.wait_for, 1)
        await deliverer.close()

    asyncio.run(run())
    assert not left


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
