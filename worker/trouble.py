"""Two ways in which a child fails that it cannot tell itself: it hangs, or the kernel takes its memory away."""

import resource
import signal
import time
from contextlib import suppress
from pathlib import Path

import leash
from abcore.specs.refusals import Problem
from abcore.specs.runs import ExitCode
from store.leases import OUT_OF_MEMORY
from store.models import Json
from worker.guardian import TRAINING
from worker.workspace import Workspace

DUMP_SECONDS = 2.0
MOST_STALLS = 2
"""A job that hangs at the same place this often hangs because of itself."""

KERNEL_COUNTERS = Path("/proc/vmstat")

# oneDNN calls a kernel whose code it could not allocate as if it had; C++ that cannot say bad_alloc aborts.
_NATIVE_DEATHS = frozenset({-signal.SIGSEGV, -signal.SIGABRT})


class Stalled(Exception):
    """The child got no further for too long; its stack is in the log, if it could still be asked."""


class Headway:
    """Whether a child that trains gets further, by the signs that it leaves and this process's monotonic clock.

    Signs are compared with each other, never with a clock: one that is set has no say in this. A verification leaves
    none, and is not judged.
    """

    def __init__(self, workspace: Workspace, run: Json, stall_seconds: float) -> None:
        self._signs = (workspace.events, workspace.headway) if run["task"] in TRAINING else ()
        self._stall_seconds = stall_seconds
        self._seen: list[int] = []
        self._seen_at = time.monotonic()

    def check(self, child: leash.Leashed, log: Path) -> None:
        """Look for new signs; where there was none for too long, have the child write its stack to its log.

        Raises:
            Stalled
        """
        seen = [_changed_at(sign) for sign in self._signs]
        now = time.monotonic()
        if seen != self._seen or not self._signs:
            self._seen, self._seen_at = seen, now
        elif now - self._seen_at >= self._stall_seconds:
            _ask_for_stack(child, log)
            raise Stalled(f"The job's process got no further for {self._stall_seconds:g} s.")


def stalled(error: Stalled) -> Problem:
    """The problem of an attempt whose child hung."""
    return Problem(
        code="child.stalled",
        message=str(error),
        hint="Its log ends with where it hung: the stack of each of its threads, the innermost call first.",
    )


class MemoryWatch:
    """Whether a child that ended wanted memory: it says so, or the kernel killed for it since this was made.

    The kernel's counter is that of the machine: another process may have been meant. And where addresses are limited
    (`ulimit -v`), native libraries die of an allocation that they take for granted: so such a death has that reason
    there, though it may have another. Where that is wrong, a job goes on in smaller parts than it must, which costs
    time and no accuracy.
    """

    def __init__(self) -> None:
        self._before = self._kills()

    def explains(self, code: int) -> bool:
        """Whether a child that ended with this code had too little memory."""
        if code in _NATIVE_DEATHS:
            return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY
        return code == ExitCode.OUT_OF_MEMORY or (code == -signal.SIGKILL and self._kills() > self._before)

    def _kills(self) -> int:
        with suppress(OSError):
            for line in KERNEL_COUNTERS.read_text().splitlines():
                match line.split():
                    case ["oom_kill", count]:
                        return int(count)
        return 0


def out_of_memory(code: int) -> Problem:
    """The problem of an attempt for which there was too little memory."""
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else "ended"
    return Problem(
        code=OUT_OF_MEMORY,
        message=f"The job's process {how} for want of memory.",
        hint="The next attempt computes its batches in halves. A smaller student, teacher or batch_size needs less.",
    )


def _changed_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _ask_for_stack(child: leash.Leashed, log: Path) -> None:
    before = log.stat().st_size
    child.send_signal(signal.SIGUSR1)
    deadline = time.monotonic() + DUMP_SECONDS
    while log.stat().st_size == before and time.monotonic() < deadline:
        if child.wait(0.05) is not None:
            return
    child.wait(0.2)  # the rest of what it writes
