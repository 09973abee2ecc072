"""No problem is told whose code is not registered, and none is registered that nothing tells."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from abcore.specs.codes import AREAS, CODES
from api.problem_types import TYPES
from api.problems import HTTP_CODES, TABLE

ROOT = Path(__file__).parents[2]
ROOMS = ["abcore", "api", "store", "worker", "server"]


def told_in(path: Path) -> Iterator[tuple[str, ast.expr]]:
    """The expression of every code that a file makes a Problem or a Refusal of, with its place."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
            if node.func.id == "Refusal" and node.args:
                found.append(node.args[0])
            if node.func.id in ("Problem", "Refusal"):
                yield from ((f"{path.relative_to(ROOT)}:{node.lineno}", one) for one in found)


def pattern_of(code: ast.expr) -> str | None:
    """A regular expression for what the expression can be; None where another place gives the code."""
    match code:
        case ast.Constant(value=str(text)):
            return re.escape(text)
        case ast.JoinedStr(values=parts):
            texts = (re.escape(p.value) if isinstance(p, ast.Constant) else "[a-z_]+" for p in parts)
            return "".join(str(text) for text in texts)
        case ast.IfExp(body=body, orelse=other):
            return f"{pattern_of(body)}|{pattern_of(other)}"
        case _:
            return None


TOLD = [
    (place, pattern)
    for room in ROOMS
    for path in sorted((ROOT / room).rglob("*.py"))
    for place, code in told_in(path)
    if (pattern := pattern_of(code)) is not None
]
RAISED = sorted({kind for nearest in TABLE for kind in (nearest, *nearest.__subclasses__())}, key=str)


def test_the_places_are_found() -> None:
    assert len(TOLD) > 100


@pytest.mark.parametrize(("place", "pattern"), TOLD, ids=[f"{place} {pattern}" for place, pattern in TOLD])
def test_every_code_that_is_told_is_registered(place: str, pattern: str) -> None:
    known = [code for code in CODES if re.fullmatch(pattern, code)]
    assert known, f"{place} tells {pattern!r}: add it to abcore/specs/codes, with its meaning and what to do"


@pytest.mark.parametrize("kind", RAISED, ids=lambda kind: kind.__name__)
def test_every_error_that_is_answered_has_a_registered_code(kind: type) -> None:
    assert kind.code in CODES, f"add {kind.code!r} to abcore/specs/codes, with its meaning and what to do"  # type: ignore[attr-defined]


def test_every_code_is_told_somewhere_and_every_type_has_a_code() -> None:
    told = [pattern for _, pattern in TOLD]
    told += [re.escape(kind.code) for kind in RAISED]  # type: ignore[attr-defined]
    told += [re.escape(code) for code in HTTP_CODES.values()]
    source = "".join(path.read_text() for path in (ROOT / "store").rglob("*.py"))
    silent = [
        code
        for code in CODES
        if not any(re.fullmatch(pattern, code) for pattern in told) and f'"{code}"' not in source
    ]
    assert not silent, "nothing tells these codes"
    assert {told.type for told in CODES.values()} == set(TYPES)


def test_a_code_is_registered_once_and_says_what_to_do() -> None:
    assert len(CODES) == sum(map(len, AREAS.values()))
    for code, told in CODES.items():
        assert re.fullmatch(r"[a-z0-9_]+(\.[a-z0-9_]+)?", code)
        assert told.means.endswith("."), code
        assert told.remedy, code


def test_the_page_of_problems_is_made_of_the_tables() -> None:
    written = subprocess.run(
        [sys.executable, "-c", "import problems_page; print(problems_page.page(), end='')"],
        cwd=ROOT / "docs",
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert (ROOT / "docs" / "problems.md").read_text() == written, "run `python docs/problems_page.py`"
