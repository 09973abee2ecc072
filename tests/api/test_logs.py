"""A job's log: in parts, as text, its last lines, and followed through the job's stream."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from store import logs

Refusal = Callable[..., dict[str, Any]]


def written(service: Any, job: dict[str, Any], *texts: str) -> Any:
    lease = service.claim()
    assert lease.job.id == job["id"]
    for text in texts:
        logs.append(service.db, lease, [text])
    return lease


def test_a_log_is_read_in_parts_and_as_text(either: Any, refusal: Refusal) -> None:
    service = either
    job = service.submit()
    path = f"/v1/jobs/{job['id']}"
    assert service.client.get(f"{path}/logs").json()["data"] == []
    written(service, job, "one\ntwo\n", "three\n", "four\n")
    page = service.client.get(f"{path}/logs", params={"limit": 2}).json()
    assert [(part["seq"], part["position"], part["text"]) for part in page["data"]] == [
        (1, 0, "one\ntwo\n"),
        (2, 8, "three\n"),
    ]
    assert (page["has_more"], page["next_cursor"]) == (True, "2")
    rest = service.client.get(f"{path}/logs", params={"after": page["next_cursor"]}).json()
    assert ([part["text"] for part in rest["data"]], rest["has_more"]) == (["four\n"], False)
    tail = service.client.get(f"{path}/logs", params={"tail": 3}).json()["data"]
    assert [(part["position"], part["text"]) for part in tail] == [
        (4, "two\n"),
        (8, "three\n"),
        (14, "four\n"),
    ]
    text = service.client.get(f"{path}/log.txt")
    assert text.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert text.text == "one\ntwo\nthree\nfour\n"
    assert service.client.get(f"{path}/log.txt", params={"tail": 1}).text == "four\n"
    service.drain()
    with service.client_of(service.key_of_another_project()) as stranger:
        for name in ("logs", "log.txt"):
            refusal(stranger.get(f"{path}/{name}"), 404, "not-found")


@pytest.mark.parametrize(
    ("query", "where", "allowed"),
    [
        ({"tail": 0}, "query.tail", [">= 1"]),
        ({"after": -1}, "query.after", [">= 0"]),
        ({"limit": 1001}, "query.limit", ["<= 1000"]),
    ],
)
def test_what_cannot_be_answered_is_refused(
    service: Any, refusal: Refusal, query: dict[str, Any], where: str, allowed: list[str]
) -> None:
    problem = refusal(service.client.get(f"/v1/jobs/{service.submit()['id']}/logs", params=query), 422)
    assert (problem["where"], problem["allowed"]) == (where, allowed)


def test_a_stream_tells_of_the_log_only_if_it_is_asked_to(service: Any) -> None:
    job = service.submit()
    path = f"/v1/jobs/{job['id']}/stream"
    lease = written(service, job, "one\n", "two\n", "three\n")
    service.succeed(lease, [])

    def kinds(include: list[str], last_id: str | None = None) -> list[tuple[str, str, Any]]:
        headers = {"Last-Event-ID": last_id} if last_id else {}
        text = service.client.get(path, params={"include": include}, headers=headers).text
        blocks = [
            dict(line.split(": ", 1) for line in block.splitlines())
            for block in text.split("\n\n")
            if "data" in block
        ]
        return [(one["event"], one["id"], json.loads(one["data"])) for one in blocks]

    told = kinds(["log"])
    assert [kind for kind, _, _ in told] == ["log", "log", "log", "end"]
    assert [content["text"] for kind, _, content in told if kind == "log"] == ["one\n", "two\n", "three\n"]
    again = kinds(["log"], told[0][1])
    assert [content["text"] for kind, _, content in again if kind == "log"] == ["two\n", "three\n"]
    assert {kind for kind, _, _ in kinds([])} == {"job", "event", "end"}
    assert {kind for kind, _, _ in kinds(["event", "log"])} == {"event", "log", "end"}
