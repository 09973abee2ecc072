"""The API's share of looking after lost jobs: without it a service whose workers all died would tell nobody."""

import logging
import threading

from api.context import Context
from store.janitor import clean
from store.sweep import sweep

DAY_SECONDS = 86400.0
_log = logging.getLogger(__name__)


class Sweeper:
    """A thread that sweeps every `sweep_seconds`, rings for what waits, and removes files that nobody needs."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Stop, and wait for a sweep that is under way."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        settings = self._context.settings
        while not self._stopping.wait(settings.sweep_seconds):
            try:
                swept = sweep(
                    self._context.db,
                    sweep_seconds=settings.sweep_seconds,
                    max_crashes=settings.max_crashes,
                    lease_seconds=settings.lease_seconds,
                )
                self._context.doorbell.ring(swept.rings_needed)
            except Exception as error:  # the database is away: the next sweep tries again
                _log.warning("could not sweep: %s", error)
                continue
            try:
                self._clean()
            except Exception as error:  # the blob store is away: the next time
                _log.warning("could not remove what nobody needs: %s", error)

    def _clean(self) -> None:
        settings = self._context.settings
        removed = clean(
            self._context.db,
            self._context.blobs,
            every_seconds=settings.janitor_seconds,
            orphan_seconds=settings.orphan_seconds,
            audit_seconds=settings.audit_days * DAY_SECONDS,
            answers_seconds=settings.shared_answers_days * DAY_SECONDS,
            answers_bytes=settings.shared_answers_bytes,
        )
        if any(removed):
            _log.info("removed files: %d of expired uploads, %d orphans, %d of teachers' answers", *removed)
