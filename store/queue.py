"""The doorbell: a broker message that says "there may be work". Lost or doubled, it changes nothing.

The configuration of both ends is here: `Doorbell` sends, `worker.app` receives with `celery_config`.
"""

import logging
from typing import Any

from celery import Celery

WORK_TASK = "worker.work"
QUEUE = "abdistill"
MOST_WAITING_RINGS = 100
SENDER_TIMEOUT_SECONDS = 2.0
RECEIVER_TIMEOUT_SECONDS = 5.0

_log = logging.getLogger(__name__)


def celery_config(broker_url: str, *, socket_timeout_seconds: float) -> dict[str, Any]:
    """Return Celery's settings: early acknowledgement, no results, no prefetching.

    With late acknowledgement on Redis a task that outlives the visibility timeout runs again while it runs; here the
    database decides who runs what, and a message is over when it is read.
    """
    return {
        "broker_url": broker_url,
        "task_default_queue": QUEUE,
        "task_acks_late": False,
        "task_ignore_result": True,
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_transport_options": {
            "ack_emulation": False,
            "socket_timeout": socket_timeout_seconds,
            "socket_connect_timeout": SENDER_TIMEOUT_SECONDS,
            "health_check_interval": 10,
        },
    }


class Doorbell:
    """Rings for workers. `broker_url` None: there is no bell, and workers find jobs by polling."""

    def __init__(self, broker_url: str | None) -> None:
        self._app: Celery | None = None
        if broker_url is not None:
            self._app = Celery("abdistill-doorbell", set_as_current=False)
            self._app.conf.update(celery_config(broker_url, socket_timeout_seconds=SENDER_TIMEOUT_SECONDS))
            # A request waits while its ring is sent: one try, not kombu's three with pauses.
            self._app.conf.broker_transport_options["max_retries"] = 0

    def ring(self, times: int = 1) -> None:
        """Ring after a commit. Never raises: a ring that is lost costs a poll interval, never a job."""
        if self._app is None:
            return
        try:
            with self._app.connection_for_write() as connection:
                # Where every worker is busy for hours, rings would pile up without a use.
                waiting = connection.default_channel.queue_declare(QUEUE, durable=True).message_count
                for _ in range(min(times, MOST_WAITING_RINGS - waiting)):
                    self._app.send_task(WORK_TASK, connection=connection, retry=False)
        except Exception as error:  # whatever a broker does wrong, the request is committed and has succeeded
            _log.warning("the doorbell is silent (%s): workers find the job by polling", error)

    def close(self) -> None:
        """Close the connections to the broker."""
        if self._app is not None:
            self._app.close()
