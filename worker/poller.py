"""Looking for work without being told, and for jobs that others lost; and saying that this worker is there."""

import logging
from threading import Thread

from store import workers
from store.sweep import sweep
from worker.tasks import Shift
from worker.workshop import Workshop

_log = logging.getLogger(__name__)


class Poller:
    """Threads that call `Shift.work` every `poll_seconds`, one a slot, and one that sweeps every `sweep_seconds`.

    With them a worker needs no broker: it only starts a little later on a job. One more says every `heartbeat_seconds`
    that the worker is there, and at the end that it is not.
    """

    def __init__(self, shift: Shift, workshop: Workshop) -> None:
        self._shift = shift
        self._workshop = workshop
        slots = range(workshop.settings.worker_slots)
        self._threads = [
            Thread(target=self._announce, name="announcer"),
            Thread(target=self._sweep, name="sweeper"),
            *(Thread(target=self._poll, name=f"poller {slot}") for slot in slots),
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Wait until all has ended after `Shift.stopping` was set."""
        for thread in self._threads:
            thread.join()

    def _poll(self) -> None:
        self._shift.work()
        while not self._shift.stopping.wait(self._workshop.settings.poll_seconds):
            self._shift.work()

    def _announce(self) -> None:
        shop = self._workshop
        while True:
            try:
                workers.announce(
                    shop.db, shop.worker_id, shop.settings.worker_slots, shop.settings.slot_devices
                )
            except Exception as error:  # the database is away: say so again later
                _log.warning("could not say that this worker is there: %s", error)
            if self._shift.stopping.wait(shop.settings.heartbeat_seconds):
                break
        try:
            workers.leave(shop.db, shop.worker_id)
        except Exception as error:  # then it is found out by its silence
            _log.warning("could not say that this worker ends: %s", error)

    def _sweep(self) -> None:
        settings = self._workshop.settings
        while not self._shift.stopping.wait(settings.sweep_seconds):
            try:
                swept = sweep(
                    self._workshop.db,
                    sweep_seconds=settings.sweep_seconds,
                    max_crashes=settings.max_crashes,
                    lease_seconds=settings.lease_seconds,
                )
            except Exception as error:  # the database is away: the next sweep tries again
                _log.warning("could not sweep: %s", error)
                continue
            for job_id in swept.recovered:
                _log.warning("job %s: its worker was lost, the job was taken back", job_id)
            self._workshop.doorbell.ring(swept.rings_needed)
