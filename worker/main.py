"""One worker process: `python -m worker`."""

import logging
import signal
import time

from store.settings import Settings, get_settings
from worker.app import create_app, serve, stop_serving
from worker.guardian import CHILD_PROGRAM
from worker.poller import Poller
from worker.tasks import Shift
from worker.workshop import Workshop

_log = logging.getLogger(__name__)


def main() -> None:
    """Work by this process's settings until SIGTERM or SIGINT."""
    run(get_settings())


def run(settings: Settings, program: tuple[str, ...] = CHILD_PROGRAM) -> None:
    """Work until told to stop; then running jobs write a checkpoint and go back to the queue."""
    # Celery sets up logging when it starts; until then, and where there is no broker, this one counts.
    logging.basicConfig(level=logging.INFO, format="[%(asctime)s: %(levelname)s] %(message)s")
    workshop = Workshop.open(settings, program)
    shift = Shift(workshop)
    poller = Poller(shift, workshop)
    try:
        for lost in workshop.workspaces.sweep():
            _log.info("removed what worker %s left", lost)
        _heed_signals(shift)
        poller.start()
        try:
            if settings.broker_url is None:
                _work_until_stopped(shift)
            else:
                app = create_app(settings.broker_url, shift.work)
                serve(app, settings.worker_slots, workshop.worker_id, shift.stopping.set)
        finally:
            shift.stopping.set()
            poller.join()
    finally:
        workshop.close()


def _heed_signals(shift: Shift) -> None:
    """Before the first job is claimed: Celery installs handlers of its own only when it has started, seconds later."""

    def stop(*_: object) -> None:
        shift.stopping.set()
        stop_serving()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


def _work_until_stopped(shift: Shift) -> None:
    # Not Event.wait: a handler that runs inside it would wait for a lock that its own thread holds.
    while not shift.stopping.is_set():
        time.sleep(0.2)
