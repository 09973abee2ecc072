"""The spawner's side of a leash."""

import errno
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from leash.limits import Limits

_MAIN = Path(__file__).with_name("main.py")


def spawn(
    command: Sequence[str],
    *,
    cwd: Path | str | None = None,
    env: Mapping[str, str] | None = None,
    stdin: int | IO[Any] | None = subprocess.DEVNULL,
    stdout: int | IO[Any] | None = None,
    stderr: int | IO[Any] | None = None,
    limits: Limits | None = None,
    grace_seconds: float = 10.0,
) -> "Leashed":
    """Start a command whose whole process tree ends when it ends, or when this process does.

    The arguments are those of `subprocess.Popen`, save that standard input is empty by default. `grace_seconds` lie
    between SIGTERM to the command's process group and SIGKILL to everything.

    Raises:
        OSError: the command could not be started.
    """
    control_read, control_write = os.pipe()
    status_read, status_write = os.pipe()
    settings = {
        "control": control_read,
        "status": status_write,
        "grace_seconds": grace_seconds,
        "limits": asdict(limits or Limits()),
    }
    try:
        process = subprocess.Popen(  # noqa: S603 - the command is the caller's, and no shell reads it
            [sys.executable, "-I", "-S", str(_MAIN), json.dumps(settings), *command],
            cwd=cwd,
            env=env,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=(control_read, status_write),
            start_new_session=True,
        )
    except BaseException:
        os.close(control_write)
        os.close(status_read)
        raise
    finally:
        os.close(control_read)
        os.close(status_write)
    return Leashed(process, control_write, status_read)


class Leashed:
    """A command on its leash. Thread-safe.

    `pid` is the leash's process, `command_pid` the command's, `missing` what the kernel did not grant of its limits.
    `stdin`, `stdout` and `stderr` are files where PIPE was asked for.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes] | None,
        control: int,
        status: int,
        start_seconds: float | None = None,
    ) -> None:
        """Take over both pipes of a leash; `process` is None where it is no child of this process.

        Raises:
            OSError: the command did not start, or not within `start_seconds`.
        """
        self._process = process
        self._control: int | None = control
        self._status: int | None = status
        self._unread = b""
        self._lock = threading.Lock()
        self._control_lock = threading.Lock()
        self._told: dict[str, Any] = {}
        self.returncode: int | None = None
        self.stdin, self.stdout, self.stderr = (
            (None, None, None) if process is None else (process.stdin, process.stdout, process.stderr)
        )
        self._wait_for_start(start_seconds)
        self.pid: int = self._told["leash"] if process is None else process.pid
        self.command_pid: int = self._told["pid"]
        self.missing: tuple[str, ...] = tuple(self._told["missing"])

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait until the command and everything below it have ended.

        Returns:
            The command's exit code, or minus the signal that ended it; None if `timeout` seconds were not enough.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._lock:
            while self._status is not None:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                if not self._receive(left):
                    return None
            if self.returncode is None:
                self._conclude()
            return self.returncode

    def terminate(self) -> None:
        """SIGTERM to the command's group now, SIGKILL to what is left after the grace."""
        self._say("terminate")

    def kill(self) -> None:
        """SIGKILL to everything, now."""
        self._say("kill")

    def send_signal(self, number: int) -> None:
        """Send a signal to the command itself, not to what it started."""
        self._say(f"signal {int(number)}")

    def keep_until(self, monotonic_seconds: float) -> None:
        """Have everything killed at that time of `time.monotonic()`, unless a later call moves it.

        The leash keeps the time itself: it kills even if this process is frozen by then.
        """
        self._say(f"until {monotonic_seconds:.3f}")

    def _wait_for_start(self, seconds: float | None) -> None:
        deadline = None if seconds is None else time.monotonic() + seconds
        while self._told.keys() <= {"leash"} and self._status is not None:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not self._receive(left):
                self._let_go()
                raise TimeoutError(errno.ETIMEDOUT, f"the command did not start within {seconds:g} s")
        if "error" in self._told or "pid" not in self._told:
            self.wait()
            reason = self._told.get("error", "its leash ended before it did")
            raise OSError(self._told.get("errno"), f"the command could not be started: {reason}")

    def _say(self, line: str) -> None:
        with self._control_lock, suppress(BrokenPipeError):
            if self._control is not None:
                os.write(self._control, line.encode() + b"\n")

    def _receive(self, timeout: float | None) -> bool:
        """Take in what the leash says; false if it said nothing in time. At end-of-file nothing is left of it."""
        assert self._status is not None
        poll = select.poll()
        poll.register(self._status, select.POLLIN | select.POLLHUP)
        if not poll.poll(None if timeout is None else timeout * 1000):
            return False
        received = os.read(self._status, 65536)
        *lines, self._unread = (self._unread + received).split(b"\n")
        for line in lines:
            if line:
                self._told.update(json.loads(line))
        if not received:
            os.close(self._status)
            self._status = None
        return True

    def _conclude(self) -> None:
        if self._process is not None:
            self._process.wait()
        self._let_go()
        if "returncode" not in self._told and "pid" in self._told:
            # The watchers were killed. The kernel has ended the command; had both died at once, its group may live.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._told["pid"], signal.SIGKILL)
        self.returncode = self._told.get("returncode", -signal.SIGKILL)

    def _let_go(self) -> None:
        """Close both pipes: a leash that still lives takes the end of its control for the spawner's."""
        with self._control_lock:
            if self._control is not None:
                os.close(self._control)
                self._control = None
        if self._status is not None:
            os.close(self._status)
            self._status = None
