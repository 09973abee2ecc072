"""Who sends what is due, when: in every API process, beside the requests, and safe beside any number of others."""

import asyncio
import logging
from contextlib import suppress

from starlette.concurrency import run_in_threadpool

from api.delivery.sending import Sender
from store import deliveries
from store.database import Database
from store.deliveries import Claimed
from store.settings import Settings

MOST_AT_ONCE = 32
LONGEST_PAUSE_SECONDS = 30.0
PRUNE_SECONDS = 3600.0
DAY_SECONDS = 86400.0
_log = logging.getLogger(__name__)


class Deliverer:
    """Looks every `webhook_poll_seconds`, and sends up to 32 at once, one at a time to each webhook."""

    def __init__(self, db: Database, settings: Settings, sender: Sender | None = None) -> None:
        self._db = db
        self._settings = settings
        self._sender = sender or Sender(settings)
        # Longer than any attempt and the writing down of what came of it, on a database that is busy too.
        self._lease_seconds = settings.webhook_timeout_seconds + 60
        self._sending: set[asyncio.Task[None]] = set()
        self._ended = 0
        self._running: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin, in the running event loop."""
        self._running = [asyncio.create_task(self._run()), asyncio.create_task(self._prune())]

    async def close(self) -> None:
        """Stop. What is being sent is cut off, and due again at once for whoever looks next."""
        tasks = [*self._running, *self._sending]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def deliver_due(self) -> None:
        """Send all that is due, also what becomes due meanwhile; return when nothing is."""
        while True:
            ended = self._ended
            while len(self._sending) < MOST_AT_ONCE and (claimed := await self._claim()) is not None:
                task = asyncio.create_task(self._deliver(claimed))
                self._sending.add(task)
                task.add_done_callback(self._end)
            if self._sending:
                await asyncio.wait(
                    self._sending,
                    timeout=self._settings.webhook_poll_seconds,
                    return_when=asyncio.FIRST_COMPLETED,
                )
            elif ended == self._ended:
                return
            # Else the last look was while a webhook was still being told something: there may be more for it.

    async def _run(self) -> None:
        pause = self._settings.webhook_poll_seconds
        while True:
            await asyncio.sleep(pause)
            try:
                await self.deliver_due()
                pause = self._settings.webhook_poll_seconds
            except Exception as error:  # the database is away: a later look tries again
                pause = max(pause, min(2 * pause, LONGEST_PAUSE_SECONDS))
                _log.warning("could not look for what webhooks are to be told: %s", error)

    async def _prune(self) -> None:
        pause = self._settings.webhook_poll_seconds
        while True:
            await asyncio.sleep(pause)
            pause = PRUNE_SECONDS
            try:
                log_seconds = self._settings.webhook_log_days * DAY_SECONDS
                await run_in_threadpool(deliveries.prune, self._db, log_seconds)
            except Exception as error:  # the database is away: the next hour is early enough
                _log.warning("could not prune the log of webhooks: %s", error)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        self._ended += 1

    async def _claim(self) -> Claimed | None:
        return await run_in_threadpool(deliveries.claim, self._db, self._lease_seconds)

    async def _deliver(self, claimed: Claimed) -> None:
        try:
            outcome = await self._sender.send(claimed)
        except asyncio.CancelledError:
            with suppress(Exception):  # else it is due when its lease has run out
                await run_in_threadpool(deliveries.give_back, self._db, claimed)
            raise
        try:
            await run_in_threadpool(deliveries.record, self._db, claimed, outcome)
        except Exception as error:  # it is sent again when its lease has run out
            _log.warning(
                "webhook %s: what came of %s was not recorded: %s",
                claimed.webhook_id,
                claimed.delivery_id,
                error,
            )
