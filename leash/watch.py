"""Watching one child and everything below it, until nothing is left."""

import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Literal

from leash import linux

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Watch:
    """Waits for `child`, obeys the lines that come through the pipe `control`, and leaves no descendant behind.

    `terminate` asks the child to end; what has not ended `grace_seconds` later is killed. `send_signal` sends another
    signal. `at_end_of_file` says what the end of the pipe means, that is, the death of whoever holds its other end.
    """

    def __init__(
        self,
        child: int,
        control: int,
        *,
        terminate: Callable[[], None],
        send_signal: Callable[[int], None],
        at_end_of_file: Literal["terminate", "kill"],
        grace_seconds: float,
    ) -> None:
        self._child = child
        self._control = control
        self._terminate = terminate
        self._send_signal = send_signal
        self._at_end_of_file = at_end_of_file
        self._grace_seconds = grace_seconds
        self._kill_at: float | None = None  # because it was asked to end
        self._valid_until: float | None = None  # because nobody extended its time
        self._unread = b""

    def run(self) -> int:
        """Watch until all has ended.

        Returns:
            The child's exit code, or minus the signal that ended it.
        """
        wake_up, signalled = os.pipe()
        for descriptor in (wake_up, signalled):
            os.set_blocking(descriptor, False)
        for number in (*STOP_SIGNALS, signal.SIGCHLD):
            signal.signal(number, self._on_signal)
        signal.set_wakeup_fd(signalled, warn_on_full_buffer=False)
        poll = select.poll()
        poll.register(wake_up, select.POLLIN)
        poll.register(self._control, select.POLLIN | select.POLLHUP)
        while (returncode := self._reap()) is None:
            for descriptor, _ in poll.poll(self._milliseconds_left()):
                if descriptor == wake_up:
                    os.read(wake_up, 512)
                elif not self._read_control():
                    poll.unregister(self._control)
            if self._milliseconds_left() == 0:
                self._kill_all()
                break
        return self._clear_away(returncode)

    def _reap(self) -> int | None:
        """Collect what has ended; the child's exit code if it is among it."""
        while True:
            try:
                process, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return -signal.SIGKILL  # the child was collected by nobody: cannot happen, and must not hang
            if process == 0:
                return None
            if process == self._child:
                return os.waitstatus_to_exitcode(status)

    def _clear_away(self, returncode: int | None) -> int:
        """Kill and collect until there is no child left, own or adopted."""
        while True:
            self._kill_all()
            try:
                process, status = os.waitpid(-1, 0)
            except ChildProcessError:
                return -signal.SIGKILL if returncode is None else returncode
            if process == self._child:
                returncode = os.waitstatus_to_exitcode(status)

    def _kill_all(self) -> None:
        if linux.IS_LINUX:
            for process in linux.descendants(os.getpid()):
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(process, signal.SIGKILL)
        else:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child, signal.SIGKILL)

    def _read_control(self) -> bool:
        """Obey what has come through the pipe; false at its end."""
        received = os.read(self._control, 4096)
        *lines, self._unread = (self._unread + received).split(b"\n")
        for line in lines:
            match line.split():
                case [b"terminate"]:
                    self._ask_to_end()
                case [b"kill"]:
                    self._kill_at = 0.0
                case [b"signal", number]:
                    self._send_signal(int(number))
                case [b"until", seconds]:
                    self._valid_until = float(seconds)
        if not received:
            if self._at_end_of_file == "terminate":
                self._ask_to_end()
            else:
                self._kill_at = 0.0
        return bool(received)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number in STOP_SIGNALS:
            self._ask_to_end()

    def _ask_to_end(self) -> None:
        if self._kill_at is None:
            self._kill_at = time.monotonic() + self._grace_seconds
            self._terminate()

    def _milliseconds_left(self) -> int | None:
        """Until all must be killed, rounded up; None without such a time."""
        ends = [end for end in (self._kill_at, self._valid_until) if end is not None]
        if not ends:
            return None
        left = min(ends) - time.monotonic()
        return 0 if left <= 0 else int(left * 1000) + 1
