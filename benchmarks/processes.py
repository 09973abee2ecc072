"""The processes of a service that runs on this machine, seen from outside: by /proc, so on Linux only."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple

PATIENCE_SECONDS = 120.0
SAMPLE_SECONDS = 0.5


def wait_for_fork_server(service_dir: Path) -> None:
    """Return when jobs can be forked: the process that does it is there, and has computed nothing for a second.

    Raises:
        TimeoutError
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    before: dict[Path, str] = {}
    while time.monotonic() < deadline:
        now = {process: _ticks(process) for process in _children(service_dir)}
        if any(before.get(process) == ticks != "" for process, ticks in now.items()):
            return
        before = now
        time.sleep(1.0)
    raise TimeoutError("no process waits for a job")


class Memory(NamedTuple):
    """Resident bytes of a process, and the most that they were."""

    now: int
    peak: int


@contextmanager
def watched_peak(service_dir: Path) -> Iterator[list[int]]:
    """Look after the children's memory; the list's last entry is the most that one of them has held, in bytes."""
    peak, done = [0], Event()

    def watch() -> None:
        while not done.wait(SAMPLE_SECONDS):
            peak.append(
                max(peak[-1], *(memory_of(int(child.name)).peak for child in _children(service_dir)), 0)
            )

    thread = Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def _children(service_dir: Path) -> list[Path]:
    """All that run `abcore.run` for this service, or fork for it; and their watchers, which do next to nothing."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        told = _read(process / "cmdline") + _read(process / "environ")
        if b"abcore.run" in told and str(service_dir.resolve()).encode() in told:
            found.append(process)
    return found


def _ticks(process: Path) -> str:
    """User and system time."""
    return b" ".join(_read(process / "stat").rpartition(b") ")[2].split()[11:13]).decode()


def memory_of(pid: int) -> Memory:
    """What a process holds; nothing where it has ended."""
    found = {
        line.split()[0]: int(line.split()[1]) * 1024
        for line in _read(Path(f"/proc/{pid}/status")).splitlines()
        if line.startswith((b"VmRSS:", b"VmHWM:"))
    }
    return Memory(found.get(b"VmRSS:", 0), found.get(b"VmHWM:", 0))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended
        return b""
