"""What a worker does when it is told that there may be work."""

import logging
import queue
import time
from threading import Event

from store import leases
from worker.attempt import Attempt
from worker.workshop import Workshop

_log = logging.getLogger(__name__)


class Shift:
    """One worker's working time: as many jobs at once as it has slots. `stopping` ends it."""

    def __init__(self, workshop: Workshop) -> None:
        self.stopping = Event()
        self._workshop = workshop
        self._free: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(workshop.settings.worker_slots):
            self._free.put(slot)

    def work(self) -> None:
        """Run jobs in a free slot until none is left to claim. Where no slot is free, those at work see to the rest.

        This is the queue's task `worker.work`, and what the poller calls: any number of calls, from any thread,
        never run more jobs than there are slots.
        """
        try:
            slot = self._free.get_nowait()
        except queue.Empty:
            return
        try:
            while not self.stopping.is_set() and self._run_one(slot):
                pass
        except Exception as error:  # the database is away, or worse: the next poll tries again
            _log.warning("could not look for work: %s", error)
        finally:
            self._free.put(slot)

    def _run_one(self, slot: int) -> bool:
        shop = self._workshop
        shop.guardian.prepare()
        claimed_at = time.monotonic()
        lease = leases.claim(shop.db, shop.worker_id, shop.settings.lease_seconds, shop.settings.slot_devices)
        if lease is None:
            return False
        Attempt(shop, lease, slot, self.stopping, claimed_at).run()
        return True
