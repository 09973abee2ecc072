"""Who sends: several at once, killed, stopped, and while the database is away; nothing is lost with any of them."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from api.delivery.deliverer import Deliverer
from store import deliveries
from store.columns import unix_now
from store.models import Delivery
from store.settings import Settings

ROOT = Path(__file__).parents[2]


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
