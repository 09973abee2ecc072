"""Writes docs/problems.md from the tables that answers are made from: `python docs/problems_page.py`."""

from pathlib import Path

from abcore.specs.codes import AREAS, Code
from api.problem_types import TYPES, codes_of, uri

PAGE = Path(__file__).with_name("problems.md")
HEAD = """# Problems

Every answer that is no success is a problem document (RFC 9457, `application/problem+json`): its `type` says which kind of
answer it is, and `errors` names each thing that is wrong: `where` it is, its `value`, what is `allowed`, a stable `code`, and
a `hint` that says what to do. `GET` the `type` itself, without a key, for what this page says of it. The problems of an upload
that is `invalid`, and of a job that `failed`, have the same form. Types and codes are stable; new ones may come.

This page is made by `python docs/problems_page.py` from the tables that answers are made from.

## Types

| type | status | title | meaning | codes |
|---|---|---|---|---|
"""
AREA_HEADS = {
    "requests": "Codes of requests",
    "specs": "Codes of what was asked for",
    "sweeps": "Codes of sweeps, comparisons and figures",
    "uploads": "Codes of uploads",
    "jobs": "Codes of jobs",
}
AREA_TEXTS = {
    "requests": "The request itself is wrong, may not be made, or comes at the wrong time.",
    "specs": "What it asks for cannot work. Answers of type `invalid`; a job tells only what its weights or images show.",
    "sweeps": "Answers of type `invalid`.",
    "uploads": "In `problems` of a teacher or dataset that is `invalid`, and `report.warnings` of one that is `ready`.",
    "jobs": "In `problems` of a job that `failed`, and in the events before.",
}


def page() -> str:
    """The page's text: a row a type, then a row a code, by what is wrong."""
    rows = [HEAD]
    for name, kind in TYPES.items():
        codes = "below" if name == "invalid" else ", ".join(f"`{code}`" for code in codes_of(name))
        rows.append(f"| `{uri(name)}` | {kind.status} | {kind.title} | {kind.means} | {codes} |\n")
    for area, codes in AREAS.items():
        rows.append(
            f"\n## {AREA_HEADS[area]}\n\n{AREA_TEXTS[area]}\n\n| code | meaning | what to do |\n|---|---|---|\n"
        )
        rows += [_row(code, told) for code, told in codes.items()]
    return "".join(rows)


def _row(code: str, told: Code) -> str:
    return f"| `{code}` | {told.means} | {told.remedy} |\n"


if __name__ == "__main__":
    PAGE.write_text(page())
