"""Processes kept alive: each on a leash, started in order, restarted when it dies, stopped in the other order."""

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from leash import Leashed, spawn
from server.console import Console, OutputReader
from server.errors import CannotStart

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
HEALTHY_SECONDS = 60.0
LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Service:
    """One process of the service.

    `is_ready` is asked, with the last lines of its output, until it says yes; it may not block for long.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    is_ready: Callable[[Sequence[str]], bool]
    grace_seconds: float = 10.0
    startup_seconds: float = 60.0


class Stopped(Exception):
    """The user asked for the end while something was still starting."""


class _Supervised:
    """A service with its process, and its history of deaths."""

    def __init__(self, service: Service, console: Console) -> None:
        self.service = service
        self._console = console
        self._deaths = 0
        self._restart_at = 0.0
        self.start()

    def start(self) -> None:
        self.started_at = time.monotonic()
        self.process: Leashed = spawn(
            self.service.command,
            env=self.service.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            grace_seconds=self.service.grace_seconds,
        )
        assert self.process.stdout is not None
        self.output = OutputReader(self.service.name, self.process.stdout, self._console)
        self._waiting = False

    def restart_if_dead(self) -> None:
        """Notice a death; start anew when the pause after it is over."""
        if self._waiting:
            if time.monotonic() >= self._restart_at:
                self.start()
            return
        code = self.process.wait(timeout=0)
        if code is None:
            return
        lived = time.monotonic() - self.started_at
        self._deaths = 1 if lived >= HEALTHY_SECONDS else self._deaths + 1
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (self._deaths - 1))
        self._restart_at = time.monotonic() + pause
        self._waiting = True
        self._console.say(
            f"{self.service.name} ended after {lived:.0f} s ({how_ended(code)}); again in {pause:g} s"
        )

    def stop(self, hurrying: Callable[[], bool]) -> None:
        self.process.terminate()
        deadline = time.monotonic() + self.service.grace_seconds + 5
        while self.process.wait(timeout=LOOK_SECONDS) is None:
            if hurrying() or time.monotonic() > deadline:
                self.process.kill()
                self.process.wait()
        self.output.finish()


class Supervisor:
    """Starts services one by one, keeps them running until asked to stop, and stops them last to first."""

    # Plain flags that are looked at, no threading.Event: a signal handler that sets one inside its wait() would
    # wait for a lock that its own thread holds.

    def __init__(self, console: Console) -> None:
        self._stopping = False
        self._hurrying = False
        self._console = console
        self._running: list[_Supervised] = []

    def ask_to_stop(self) -> None:
        """Ask for an orderly end; the second time, for an immediate one. May be called by a signal handler."""
        self._hurrying = self._stopping
        self._stopping = True

    def start(self, service: Service) -> None:
        """Start a service and return when it is ready.

        Raises:
            CannotStart: it ended first, or was not ready in time; its last lines are in the message.
            Stopped: it was asked to stop meanwhile.
        """
        supervised = _Supervised(service, self._console)
        self._running.append(supervised)
        while not service.is_ready(supervised.output.lines()):
            code = supervised.process.wait(timeout=0)
            if code is not None:
                supervised.output.finish()
                raise CannotStart(
                    f"{service.name} ended while starting ({how_ended(code)}). Its last lines:\n"
                    + "\n".join(f"    {line}" for line in supervised.output.lines())
                )
            if time.monotonic() > supervised.started_at + service.startup_seconds:
                raise CannotStart(
                    f"{service.name} was not ready after {service.startup_seconds:g} s. Its last lines:\n"
                    + "\n".join(f"    {line}" for line in supervised.output.lines())
                )
            if self._stopping:
                raise Stopped
            time.sleep(LOOK_SECONDS)
        seconds = time.monotonic() - supervised.started_at
        self._console.say(f"{service.name} is ready ({seconds:.1f} s, pid {supervised.process.command_pid})")

    def run(self) -> None:
        """Watch over all services until asked to stop."""
        while not self._stopping:
            for supervised in self._running:
                supervised.restart_if_dead()
            time.sleep(LOOK_SECONDS)

    def shut_down(self) -> None:
        """End all services, the last that was started first; each has its grace, unless asked to hurry."""
        while self._running:
            supervised = self._running.pop()
            self._console.say(f"stopping {supervised.service.name}")
            supervised.stop(lambda: self._hurrying)


def how_ended(code: int) -> str:
    """An exit code in words."""
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"
