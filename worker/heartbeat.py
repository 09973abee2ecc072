"""Keeping a lease, and with it a child, alive."""

import logging
import threading
import time
from types import TracebackType
from typing import Self

from leash import Leashed
from store import leases
from store.database import Database
from store.errors import LeaseLost
from store.leases import Directive, Lease
from store.settings import Settings

RETRY_SECONDS = 1.0

_log = logging.getLogger(__name__)


class Heartbeat:
    """Renews a lease from a thread of its own; what it hears is for others to read.

    A child that it guards dies when the lease has not been renewed for `abandon_seconds`, by its leash's own clock:
    also where the database is away, or this whole process is frozen. So no two attempts of a job overlap.
    """

    def __init__(self, db: Database, lease: Lease, settings: Settings, claimed_at: float) -> None:
        self.directive = Directive.CONTINUE
        self._db = db
        self._lease = lease
        self._settings = settings
        self._valid_until = claimed_at + settings.abandon_seconds
        self._taken_away = False
        self._child: Leashed | None = None
        self._guarded_at = 0.0
        self._ended_at: float | None = None
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"heartbeat {lease.job.id}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def guard(self, child: Leashed) -> None:
        """Tie the life of a child that was just started to the lease, and count its time from now on."""
        with self._lock:
            self._child = child
            self._guarded_at = time.monotonic()
            child.keep_until(self._valid_until)

    @property
    def attempt_seconds(self) -> float:
        """How long the child has run, or did run."""
        if self._child is None:
            return 0.0
        return (self._ended_at or time.monotonic()) - self._guarded_at

    def child_ended(self) -> None:
        """Stop counting the child's time, and write it down. Of one whose worker is killed the last beat is lost.

        Raises:
            LeaseLost
        """
        self._ended_at = self._ended_at or time.monotonic()
        leases.renew(self._db, self._lease, self._settings.lease_seconds, self.attempt_seconds)

    def check(self) -> None:
        """Raise LeaseLost where the job is, or may by now be, somebody else's."""
        if self._taken_away or time.monotonic() > self._valid_until:
            raise LeaseLost(f"The lease on job {self._lease.job.id} could not be kept.")

    def _beat(self) -> None:
        wait_seconds = self._settings.heartbeat_seconds
        while not self._done.wait(wait_seconds):
            asked_at = time.monotonic()
            try:
                self.directive = leases.renew(
                    self._db, self._lease, self._settings.lease_seconds, self.attempt_seconds
                )
            except LeaseLost:
                # At the end of an attempt this is its own doing: the outcome is committed, the lease is over.
                self._taken_away = True
                self._kill_child()
                return
            except Exception as error:  # the database is away: whatever the reason, keep asking
                _log.warning("job %s: lease not renewed: %s", self._lease.job.id, error)
                wait_seconds = min(RETRY_SECONDS, self._settings.heartbeat_seconds)
                continue
            wait_seconds = self._settings.heartbeat_seconds
            with self._lock:
                self._valid_until = asked_at + self._settings.abandon_seconds
                if self._child is not None:
                    self._child.keep_until(self._valid_until)

    def _kill_child(self) -> None:
        with self._lock:
            if self._child is not None:
                self._child.kill()
