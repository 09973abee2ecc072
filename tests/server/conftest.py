"""Supervised services made of small real processes, and a way to see every process that a test has left."""

import io
import os
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from server.console import Console
from server.supervisor import Service, Supervisor

MARK = "ABDISTILL_TEST_MARK"
PATIENCE_SECONDS = 60.0


class Marked:
    """An environment by which every process that a test starts, however indirectly, can be found."""

    def __init__(self) -> None:
        self._value = uuid.uuid4().hex
        self.environment = dict(os.environ) | {MARK: self._value}

    def processes(self) -> dict[int, str]:
        """The living ones and their command lines."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    ended = b") Z " in (entry / "stat").read_bytes()
                    if not ended and f"{MARK}={self._value}".encode() in (entry / "environ").read_bytes():
                        found[int(entry.name)] = (
                            (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                        )
                except OSError:  # it has ended, or is another user's
                    continue
        return found

    def wait_until_gone(self) -> None:
        """Fail when some of them stay; they are killed then."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while left := self.processes():
            if time.monotonic() > deadline:
                for pid in left:
                    os.kill(pid, 9)
                raise AssertionError(f"processes were left behind: {left}")
            time.sleep(0.05)


@pytest.fixture
def marked() -> Iterator[Marked]:
    """Whatever a test starts in this environment must be gone soon after it ends."""
    marked = Marked()
    yield marked
    marked.wait_until_gone()


class Stage:
    """A supervisor whose services are Python scripts that write their story to one file."""

    def __init__(self, folder: Path, marked: Marked) -> None:
        self.screen = io.StringIO()
        self.supervisor = Supervisor(Console(self.screen))
        self.story_file = folder / "story"
        self.story_file.touch()
        self._marked = marked

    def service(
        self, name: str, script: str, grace_seconds: float = 5.0, startup_seconds: float = 20.0
    ) -> Service:
        """A service that is ready when its story says `NAME up`."""
        return Service(
            name,
            [sys.executable, "-c", PRELUDE + script, name, str(self.story_file)],
            self._marked.environment,
            is_ready=lambda _lines: f"{name} up" in self.story(),
            grace_seconds=grace_seconds,
            startup_seconds=startup_seconds,
        )

    def story(self) -> list[str]:
        """What the scripts wrote, in order."""
        return self.story_file.read_text().splitlines()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """The supervisor at its watch in a thread, until the block ends; then all is shut down."""
        thread = threading.Thread(target=self.supervisor.run)
        thread.start()
        try:
            yield
        finally:
            self.supervisor.ask_to_stop()
            thread.join()
            self.supervisor.shut_down()


PRELUDE = """
import os, signal, sys, time
def tell(what):
    with open(sys.argv[2], "a") as file:
        file.write(f"{sys.argv[1]} {what}\\n")
def end(*_):
    tell("down")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
"""


@pytest.fixture
def stage(tmp_path: Path, marked: Marked) -> Stage:
    return Stage(tmp_path, marked)
