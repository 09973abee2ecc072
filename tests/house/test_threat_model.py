"""Each promise of the threat model leads to tests that are there."""

import ast
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "threat-model.md"
LINKS = re.findall(r"\]\((\.\./tests/[^)#]+)#([^)]+)\)", PAGE.read_text())


def promises() -> list[str]:
    section = PAGE.read_text().partition("## Promises")[2].partition("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("| ")][1:]


def test_every_promise_has_a_test() -> None:
    assert len(promises()) >= 15
    assert not [promise for promise in promises() if "](../tests/" not in promise]
    assert sum(promise.count("](") for promise in promises()) == len(LINKS)


@pytest.mark.parametrize(("file", "test"), LINKS, ids=[test for _, test in LINKS])
def test_every_test_that_is_named_is_there(file: str, test: str) -> None:
    tree = ast.parse((PAGE.parent / file).read_text())
    there = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert test in there, f"{file} has no {test}: it was renamed, or the promise has lost its proof"
