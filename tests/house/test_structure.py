"""Policies of the house that no linter knows."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ["abcore", "api", "benchmarks", "client", "demo", "leash", "migrations", "server", "store", "worker"]
SOURCES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py") if ".venv" not in path.parts)


def _relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_rooms_are_found() -> None:
    assert len(SOURCES) > 60


@pytest.mark.parametrize("module", ["api.app", "worker.tasks", "server.main", "store.jobs", "abcore.events"])
def test_service_processes_stay_free_of_torch(module: str) -> None:
    """A worker that has run torch cannot fork safely, and an API without it starts in a second and stays small."""
    heavy = ("torch", "torchvision", "numpy")
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


def test_the_client_knows_nothing_of_the_server() -> None:
    code = (
        "import sys, abdistill, abdistill.cli;"
        "rooms = ('torch', 'abcore', 'store', 'api', 'worker', 'server', 'leash');"
        "print([m for m in rooms if m in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize("path", SOURCES, ids=_relative)
def test_a_file_has_one_subject(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 400, f"{_relative(path)} is longer than 400 lines: split it by subject"
    assert text.startswith('"""'), f"{_relative(path)} does not say what it is for: begin it with a docstring"


@pytest.mark.parametrize("path", SOURCES, ids=_relative)
def test_nothing_is_left_for_later(path: Path) -> None:
    words = ("TODO", "FIXME", "XXX", "raise NotImplementedError")
    unfinished = [word for word in words if word in path.read_text()]
    assert not unfinished, f"{_relative(path)} contains {unfinished}"


def test_no_room_for_odds_and_ends() -> None:
    odds = {"utils.py", "helpers.py", "manager.py", "misc.py", "common.py"}
    assert not [_relative(path) for path in SOURCES if path.name in odds]


@pytest.mark.parametrize("name", ["settings", "hostile"])
def test_a_page_that_is_made_is_up_to_date(name: str) -> None:
    written = subprocess.run(
        [sys.executable, "-c", f"import {name}_page; print({name}_page.page(), end='')"],
        cwd=ROOT / "docs",
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert (ROOT / "docs" / f"{name}.md").read_text() == written, f"run `python docs/{name}_page.py`"
