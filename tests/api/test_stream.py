"""The stream of a job: everything once, in order, however often the connection breaks."""

import json
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from abcore import events as told
from store import progress

Refusal = Callable[..., dict[str, Any]]
NUM_RECORDS = 60


def messages(service: Any, path: str, last_id: str | None) -> Iterator[tuple[str, str, Any]]:
    headers = {"Last-Event-ID": last_id} if last_id else {}
    with service.client.stream("GET", f"{path}/stream", headers=headers) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        fields: dict[str, str] = {}
        for line in answer.iter_lines():
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif "event" in fields:
                yield fields["event"], fields["id"], json.loads(fields["data"])
                fields = {}


def tell(service: Any, lease: Any) -> None:
    """What a worker would: figures and events in batches, then the end."""
    for number in range(NUM_RECORDS):
        note = told.Note(time=float(number), level="info", code="test", message=str(number))
        values = {"loss": float(number), "rate": number / 2}
        figures = told.Metrics(time=float(number), phase="finetune", epoch=0, step=number, values=values)
        progress.record(service.db, lease, [note, figures] if number % 3 else [figures])
    service.succeed(lease, [])


def test_a_reader_that_is_cut_off_twenty_times_misses_nothing_and_sees_nothing_twice(either: Any) -> None:
    service = either
    path = f"/v1/jobs/{service.submit()['id']}"
    lease = service.claim()
    telling = threading.Thread(target=tell, args=(service, lease))
    draws = random.Random(0)
    seqs: list[int] = []
    figures: list[tuple[str, int]] = []
    last_id, cuts, ended = None, 0, False
    while not ended:
        cut_after = draws.randrange(1, 8) if cuts < 20 else None
        for number, (kind, id_, content) in enumerate(messages(service, path, last_id)):
            if kind == "event":
                seqs.append(content["seq"])
            elif kind == "metrics":
                figures += [(metric["name"], metric["step"]) for metric in content]
            elif kind == "end":
                assert content["state"] == "succeeded"
                ended = True
            last_id = id_
            if not telling.ident:
                telling.start()
            if number == cut_after:
                cuts += 1
                break
    telling.join()
    assert cuts == 20
    assert seqs == list(range(1, len(seqs) + 1))
    told_events = progress.events(service.db, lease.job.project_id, lease.job.id, limit=1000)
    assert len(seqs) == len(told_events)
    assert len(figures) == len(set(figures)) == 2 * NUM_RECORDS
    assert [step for name, step in figures if name == "loss"] == list(range(NUM_RECORDS))


def test_a_figure_that_a_later_attempt_gives_again_is_sent_again(service: Any) -> None:
    path = f"/v1/jobs/{service.submit()['id']}"
    lease = service.claim()
    for value in (1.0, 2.0):
        figures = told.Metrics(time=1.0, phase="finetune", epoch=0, step=7, values={"loss": value})
        progress.record(service.db, lease, [figures])
        if value == 1.0:
            stream = messages(service, path, None)
            last_id = next(id_ for kind, id_, _ in stream if kind == "metrics")
    service.succeed(lease, [])
    later = [content for kind, _, content in messages(service, path, last_id) if kind == "metrics"]
    assert [[metric["value"] for metric in batch] for batch in later] == [[2.0]]


@pytest.mark.parametrize("last_id", ["7", "e1", "e1.m2.", "e1.m2.l", "e-1.m0"])
def test_an_id_that_is_none_is_refused(service: Any, refusal: Refusal, last_id: str) -> None:
    path = f"/v1/jobs/{service.submit()['id']}"
    problem = refusal(service.client.get(f"{path}/stream", headers={"Last-Event-ID": last_id}), 422)
    assert (problem["where"], problem["value"]) == ("header.Last-Event-ID", last_id)
