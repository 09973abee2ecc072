"""The queue's end: a Celery worker whose one task looks for work."""

from collections.abc import Callable

from celery import Celery, signals
from celery.worker import state

from store.queue import RECEIVER_TIMEOUT_SECONDS, WORK_TASK, celery_config


def create_app(broker_url: str, work: Callable[[], None]) -> Celery:
    """Return the Celery app that calls `work` at each ring."""
    app = Celery("worker")
    app.conf.update(celery_config(broker_url, socket_timeout_seconds=RECEIVER_TIMEOUT_SECONDS))
    app.task(work, name=WORK_TASK)
    return app


def stop_serving() -> None:
    """End `serve`, also one that has not begun: Celery looks at this wherever it waits, for a broker too."""
    state.should_stop = 0


def serve(app: Celery, slots: int, worker_id: str, on_stop: Callable[[], None]) -> None:
    """Serve the queue until SIGTERM or SIGINT; `on_stop` is called at once when one comes, in the signal's handler.

    Without gossip and mingle: workers do not need each other, and both are ways to stall after a reconnect.
    """

    def stop(**_signal: object) -> None:
        on_stop()

    signals.worker_shutting_down.connect(stop, weak=False)
    try:
        app.worker_main(
            [
                "worker",
                "--pool=threads",
                f"--concurrency={slots}",
                "--without-gossip",
                "--without-mingle",
                "--loglevel=INFO",
                f"--hostname={worker_id}@%h",
            ]
        )
    finally:
        signals.worker_shutting_down.disconnect(stop)
