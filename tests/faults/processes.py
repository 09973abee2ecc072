"""Programs that are started again when they die, as an init system does it, and what lives below them."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from leash import linux

LOOK_SECONDS = 0.1
STOP_SECONDS = 40.0
ORPHAN_SECONDS = 5.0
"""Within this time nothing may be left below a process that was killed."""


class Kept:
    """One program, always running. Not on a leash, which would clear away what the program itself must."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        user: str | None = None,
    ) -> None:
        self.name = name
        self.starts = 0
        self._command = command
        self._environment = environment
        self._folder = folder
        self._user = user
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"keeper of {name}", daemon=True)

    def start(self) -> None:
        self._spawn()
        self._thread.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        with self._lock:
            self._process.send_signal(number)

    def stop(self) -> bool:
        """End it for good; whether it did so by itself when it was asked."""
        self._ending.set()
        self._thread.join()
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self) -> None:
        """Kill it for good, if it was started."""
        self._ending.set()
        if self.starts:
            self._thread.join()
            self._process.kill()
            self._process.wait()

    def _keep(self) -> None:
        while not self._ending.wait(LOOK_SECONDS):
            with self._lock:
                if self._process.poll() is not None:
                    self._spawn()

    def _spawn(self) -> None:
        self.starts += 1
        with (self._folder / f"{self.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=self._user,
                start_new_session=True,
            )


def below(pid: int) -> dict[int, str]:
    """What lives below a process, parents first: its command lines by pid."""
    return {child: told for child in linux.descendants(pid) if (told := command_line(child))}


def parent_of(pid: int) -> int | None:
    """The process that a process is a child of; None if it has ended."""
    with suppress(OSError):
        # The name in parentheses may hold spaces and parentheses too.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return None


def command_line(pid: int) -> str:
    """How a process was called; empty if it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def state(pid: int) -> str:
    """What the kernel says that a process does: running, sleeping, stopped."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("State:"):
                return line.split(maxsplit=1)[1]
    return "ended"


def marked(mark: str) -> dict[int, str]:
    """Living processes with this text in their environment or arguments, other than this one."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                if mark.encode() in (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes():
                    found[int(entry.name)] = command_line(int(entry.name))
    return found


def left_of(processes: Mapping[int, str], within_seconds: float = ORPHAN_SECONDS) -> list[str]:
    """Wait for the end of all of these; return the command lines of those that go on."""
    deadline = time.monotonic() + within_seconds
    while left := {pid: told for pid, told in processes.items() if command_line(pid) == told}:
        if time.monotonic() > deadline:
            return [f"{pid} ({state(pid)}) {told}" for pid, told in left.items()]
        time.sleep(0.05)
    return []


def send(pids: Iterable[int], number: int) -> bool:
    """Signal processes; whether any was there."""
    sent = 0
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
            sent += 1
    return sent > 0


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait; fail with a sentence."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.05)
