"""Texts that no database or terminal should be given: refused where they would be kept, unknown where they are sought.

PostgreSQL's texts cannot hold NUL: what passed it on would answer 500.
"""

from typing import Any

import pytest

UNSEEN = ["\0", "\x1b[2J", "\n", "\x9b", "\u202e", "\u2066", "\u2028"]


@pytest.mark.parametrize("text", UNSEEN, ids=ascii)
@pytest.mark.parametrize("field", ["name", "filename"])
def test_they_are_not_kept(either: Any, refusal: Any, field: str, text: str) -> None:
    body = {"name": "digits", "filename": "digits.npz", field: f"a{text}b"}
    assert refusal(either.client.post("/v1/datasets", json=body), 422)["where"] == field


def test_other_languages_are_kept(either: Any) -> None:
    body = {"name": "žába 蛙 ضفدع 🐸", "filename": "蛙.npz"}
    answer = either.client.post("/v1/datasets", json=body)
    assert (answer.status_code, answer.json()["name"]) == (201, body["name"])


@pytest.mark.parametrize(
    "query",
    [
        "teacher=tch_%00",
        "dataset=%00",
        "sweep=%00",
        "label=a%00:b",
        "label=team:%00",
        "cursor=%00",
        "state=%00",
    ],
)
def test_in_a_query_they_are_found_nowhere(either: Any, query: str) -> None:
    answer = either.client.get(f"/v1/jobs?{query}")
    assert answer.status_code == 422 or answer.json()["data"] == []


@pytest.mark.parametrize(
    "path", ["jobs/%00", "teachers/%00", "datasets/a%00b/samples", "webhooks/%00", "jobs/%00/artifacts/x"]
)
def test_in_a_path_there_is_nothing(either: Any, path: str) -> None:
    assert either.client.get(f"/v1/{path}").status_code == 404
