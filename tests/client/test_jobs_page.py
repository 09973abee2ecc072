"""docs/jobs.md: its Python blocks run as printed, and its tables hold what the code does."""

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from abdistill import Client

from store import leases, logs
from store.models import JobState
from store.moves import NEXT, JobEventType
from store.waiting import WaitCode

PAGE = (Path(__file__).parents[2] / "docs" / "jobs.md").read_text()
TEACHER = {
    "architecture": {"arch": "wide_resnet", "depth": 16, "width": 2},
    "image": {"channels": 1, "height": 8, "width": 8},
    "num_classes": 10,
}


def rows(heading: str) -> dict[str, list[str]]:
    """The rest of each row of a section's first table, by the name in its first column."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    table = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    assert table is not None
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[0].splitlines()[2:]]
    return {first.strip("`"): rest for first, *rest in found}


@pytest.fixture
def a_worker(backstage: Any) -> Iterator[None]:
    """Does what is queued, as it comes."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.02):
            if (lease := leases.claim(backstage.db, "worker", 3600.0)) is not None:
                backstage.train(lease)
                logs.append(backstage.db, lease, ["a line of the log\n"])
                backstage.succeed(lease, b"student")

    thread = threading.Thread(target=work)
    thread.start()
    yield
    over.set()
    thread.join()


def test_the_blocks_run_in_their_order(
    client: Client, backstage: Any, file: Path, capsys: pytest.CaptureFixture[str], request: Any
) -> None:
    teacher = client.teachers.add(file, model=TEACHER, name="t", wait=False)
    backstage.accept()
    names = {
        "client": client,
        "teacher": teacher,
        "dataset": SimpleNamespace(id=backstage.ready_dataset(client, file)),
    }
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    for block in blocks:
        if "client.jobs.follow" in block:
            request.getfixturevalue("a_worker")  # what is cancelled and paused before must wait for that
        exec(compile(block, "docs/jobs.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "job.succeeded The job succeeded." in printed
    assert "finetune loss 20 0.5" in printed
    assert "a line of the log" in printed
    assert "{'student.width': 2, 'recipe.seed': 1} 0.97" in printed
    assert "['recipe.seed', 'student.width']" in printed
    assert client.jobs.get(names["job"].id).max_runtime_seconds == 3600


def test_the_tables_hold_every_state_event_and_reason() -> None:
    following = {state: re.findall(r"`(\w+)`", cells[1]) for state, cells in rows("States").items()}
    assert {state: set(next_) for state, next_ in following.items()} == {
        state: set(NEXT[state]) for state in get_args(JobState)
    }
    assert list(rows("Events")) == list(get_args(JobEventType))
    assert list(rows("Why it waits")) == list(get_args(WaitCode))
