"""Processes kept alive: order, restarts, ends."""

import re
import signal
import threading
import time
from typing import Any

import pytest

from server.errors import CannotStart
from server.supervisor import Stopped

STAY = 'tell("up")\nwhile True: time.sleep(0.05)\n'


def test_started_in_order_and_stopped_last_to_first(stage: Any) -> None:
    for name in ("broker", "api", "worker"):
        stage.supervisor.start(stage.service(name, STAY))
    with stage.watching():
        pass
    assert stage.story() == ["broker up", "api up", "worker up", "worker down", "api down", "broker down"]


def test_what_dies_is_started_again_after_growing_pauses(stage: Any) -> None:
    dies_three_times = """
deaths = open(sys.argv[2]).read().count("died")
tell("up")
if deaths < 3:
    tell("died")
    os.kill(os.getpid(), signal.SIGKILL)
while True: time.sleep(0.05)
"""
    stage.supervisor.start(stage.service("worker", dies_three_times))
    with stage.watching():
        deadline = time.monotonic() + 30
        while stage.story().count("worker up") < 4:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert re.findall(r"killed by signal 9\); again in ([\d.]+) s", stage.screen.getvalue()) == [
        "0.5",
        "1",
        "2",
    ]
    assert stage.story()[-1] == "worker down"


def test_one_that_cannot_start_says_why(stage: Any) -> None:
    stage.supervisor.start(stage.service("broker", STAY))
    with pytest.raises(CannotStart, match=r"(?s)api ended while starting \(exit code 3\).*no port is free"):
        stage.supervisor.start(stage.service("api", 'print("no port is free", flush=True); sys.exit(3)'))
    stage.supervisor.shut_down()
    assert stage.story() == ["broker up", "broker down"]


def test_one_that_never_gets_ready_is_given_up(stage: Any) -> None:
    waits = 'print("waiting for a broker", flush=True)\nwhile True: time.sleep(0.05)\n'
    with pytest.raises(CannotStart, match=r"(?s)worker was not ready after 1 s.*waiting for a broker"):
        stage.supervisor.start(stage.service("worker", waits, startup_seconds=1.0))
    stage.supervisor.shut_down()


def test_a_stop_during_the_start_is_heard(stage: Any) -> None:
    threading.Timer(0.3, stage.supervisor.ask_to_stop).start()
    with pytest.raises(Stopped):
        stage.supervisor.start(stage.service("api", "while True: time.sleep(0.05)"))
    stage.supervisor.shut_down()


def test_one_that_ignores_the_request_is_killed_after_its_grace(stage: Any, marked: Any) -> None:
    stubborn = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + STAY
    stage.supervisor.start(stage.service("api", stubborn, grace_seconds=0.5))
    with stage.watching():
        assert marked.processes()
    assert not marked.processes()


def test_asked_twice_it_waits_for_no_grace(stage: Any, marked: Any) -> None:
    stubborn = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + STAY
    stage.supervisor.start(stage.service("api", stubborn, grace_seconds=10_000.0))
    stage.supervisor.ask_to_stop()
    stage.supervisor.ask_to_stop()
    stage.supervisor.shut_down()
    assert not marked.processes()


def test_output_is_shown_with_the_name_of_its_process(stage: Any) -> None:
    stage.supervisor.start(stage.service("api", 'print("first\\nsecond", flush=True)\n' + STAY))
    with stage.watching():
        pass
    plain = re.sub(r"\x1b\[\d*m", "", stage.screen.getvalue())
    assert re.search(r"^\d\d:\d\d:\d\d api +\| first$", plain, re.MULTILINE)
    assert re.search(r"^\d\d:\d\d:\d\d api +\| second$", plain, re.MULTILINE)


def test_signals_are_named() -> None:
    from server.supervisor import how_ended

    assert how_ended(-signal.SIGKILL) == "killed by signal 9"
    assert how_ended(3) == "exit code 3"
