"""The embedded Valkey: reachable by its user only, through a short path, with a memory."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from leash import spawn
from server.broker import LONGEST_SOCKET_PATH_BYTES, EmbeddedBroker
from server.errors import CannotStart


@contextmanager
def running(broker: EmbeddedBroker) -> Iterator[redis.Redis]:
    process = spawn(broker.command)
    try:
        while not broker.answers():
            assert process.wait(timeout=0.02) is None, "it ended"
        with redis.Redis(unix_socket_path=str(broker.socket_path)) as connection:
            yield connection
    finally:
        process.terminate()
        assert process.wait(timeout=20) == 0


def test_only_its_user_can_open_it(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path)
    assert not broker.answers()
    with running(broker) as connection:
        assert stat.S_IMODE(broker.socket_path.stat().st_mode) == 0o700
        assert stat.S_IMODE((tmp_path / "broker").stat().st_mode) == 0o700
        assert connection.config_get("port") == {"port": "0"}


def test_a_ring_outlives_a_restart(tmp_path: Path) -> None:
    with running(EmbeddedBroker(tmp_path)) as connection:
        connection.lpush("celery", "look")
    with running(EmbeddedBroker(tmp_path)) as connection:
        assert connection.lrange("celery", 0, -1) == [b"look"]


def test_a_long_folder_gets_a_short_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = tmp_path / "run"
    runtime.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    deep = tmp_path / ("d" * 120)
    broker = EmbeddedBroker(deep)
    assert len(os.fsencode(broker.socket_path)) <= LONGEST_SOCKET_PATH_BYTES
    assert stat.S_IMODE(broker.socket_path.parent.stat().st_mode) == 0o700
    assert EmbeddedBroker(tmp_path / ("e" * 120)).socket_path != broker.socket_path
    with running(broker) as connection:
        connection.set("here", "yes")
    assert (deep / "broker" / "appendonlydir").is_dir()


def test_a_folder_that_others_may_enter_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = tmp_path / "run"
    runtime.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    EmbeddedBroker(tmp_path / ("d" * 120)).socket_path.parent.chmod(0o755)
    with pytest.raises(CannotStart, match="not a folder that only you can open"):
        EmbeddedBroker(tmp_path / ("d" * 120))


def test_a_broker_of_someone_else_is_not_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.broker.PREDECESSOR_SECONDS", 0.2)
    with running(EmbeddedBroker(tmp_path)), pytest.raises(CannotStart, match="did not start answers at"):
        EmbeddedBroker(tmp_path).wait_for_predecessor()
