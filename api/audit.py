"""The audit log's writer: requests leave a note, a thread writes the notes down each second and at the end.

So no request waits for it, and none fails where it cannot be written. What a process had noted in its last second is
lost where it is killed; the access log has a line of those requests all the same.
"""

import logging
import threading
import time
from collections import deque
from typing import Any

from starlette.types import Scope

from store.audit import record
from store.database import Database
from store.ids import new_id
from store.keys import Principal

CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
REFUSED = frozenset({401, 403})
FLUSH_SECONDS = 1.0
MOST_AT_ONCE = 500
MOST_WAITING = 20_000
"""Notes that wait while the database is away; later ones are counted and dropped."""
MOST_STRANGERS = 100
"""Of them those of requests without a good key: who has none must not crowd out those who have, nor fill the disk."""
_log = logging.getLogger(__name__)


class AuditTrail:
    """Notes that wait to be written."""

    def __init__(self) -> None:
        self._waiting: deque[dict[str, Any]] = deque()
        self._lock = threading.Lock()
        self._strangers = self._dropped = 0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._db: Database | None = None

    def start(self, db: Database) -> None:
        """Begin to write."""
        self._db = db
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what is left, and stop."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        while self._waiting and self.flush():
            pass
        if self._waiting:
            _log.error("%d entries of the audit log could not be written, and are lost", len(self._waiting))

    def note(self, scope: Scope, status: int, location: str | None) -> None:
        """Note an answered request of one of our operations, if it asked for a change or was refused for its key."""
        operation = getattr(scope.get("route"), "operation_id", None)
        if operation is None or not (scope["method"] in CHANGING or status in REFUSED):
            return
        caller: Principal | None = scope["state"].get("principal")
        entry = {
            "id": new_id("aud"),
            "time": round(time.time(), 6),  # as answers show it, so that a filter finds it
            "project_id": caller and caller.project_id,
            "key_id": caller and caller.key_id,
            "key_name": caller and caller.key_name,
            "operation": operation,
            "object_id": _object_of(scope, location),
            "status": status,
            "address": scope["client"][0][:64] if scope.get("client") else None,
            "request_id": scope["state"]["request_id"],
        }
        with self._lock:
            strange = caller is None
            if len(self._waiting) >= MOST_WAITING or (strange and self._strangers >= MOST_STRANGERS):
                self._dropped += 1
                return
            self._strangers += strange
            self._waiting.append(entry)

    def flush(self) -> bool:
        """Write some of what waits; whether that went well. What could not be written waits on."""
        assert self._db is not None, "start() gives the database"
        with self._lock:
            batch = [self._waiting.popleft() for _ in range(min(MOST_AT_ONCE, len(self._waiting)))]
            dropped, self._dropped = self._dropped, 0
        if dropped:
            _log.warning("%d entries of the audit log were dropped: too many at once", dropped)
        try:
            if batch:
                record(self._db, batch)
        except Exception as error:  # the database is away: the next second
            _log.warning("the audit log could not be written: %s", error)
            with self._lock:
                self._waiting.extendleft(reversed(batch))
            return False
        with self._lock:
            self._strangers -= sum(entry["project_id"] is None for entry in batch)
        return True

    def _run(self) -> None:
        while not self._stopping.wait(FLUSH_SECONDS):
            while self._waiting and not self._stopping.is_set() and self.flush():
                pass


def _object_of(scope: Scope, location: str | None) -> str | None:
    """The id of the object that was made, else of the one that the path ends at."""
    if location is not None:
        return location.rsplit("/", 1)[-1][:64]
    ids = [value for name, value in scope.get("path_params", {}).items() if name.endswith("_id")]
    return str(ids[-1])[:64] if ids else None
