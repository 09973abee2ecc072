"""What tests on process trees need: a marker that every process of a test carries, and who still carries it."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest


def _carriers(marker: str) -> dict[int, str]:
    """The living processes that have `marker` in their environment, with their command lines."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if marker.encode() in (entry / "environ").read_bytes():
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
    return found


class Tree(Protocol):
    """Processes of one test."""

    env: dict[str, str]

    def living(self) -> dict[int, str]: ...

    def becomes(self, condition: Callable[[dict[int, str]], bool], within_seconds: float = 10.0) -> bool: ...


class _Tree:
    def __init__(self, marker: str) -> None:
        self._marker = marker
        self.env = os.environ | {"TEST_TREE": marker}

    def living(self) -> dict[int, str]:
        return _carriers(self._marker)

    def becomes(self, condition: Callable[[dict[int, str]], bool], within_seconds: float = 10.0) -> bool:
        deadline = time.monotonic() + within_seconds
        while not condition(self.living()):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    """All processes started with `tree.env`; whatever is left of them at the end is killed."""
    tree = _Tree(f"tree-{tmp_path}-{os.getpid()}")
    yield tree
    for process in tree.living():
        os.kill(process, 9)
