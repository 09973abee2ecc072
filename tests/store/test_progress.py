"""What a run tells is recorded whole, in order, and the last attempt's figures win."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from abcore.events import (
    CheckpointSaved,
    Failed,
    Finished,
    Interrupted,
    Metrics,
    Note,
    PhaseFinished,
    PhaseStarted,
    Progress,
    Resumed,
    RunStarted,
)
from abcore.specs.computations import Computation
from store import job_lists, jobs, progress
from store.errors import BadCursor, NotFound
from store.leases import renew, requeue
from store.progress import record

COMPUTATION = Computation(precision="fp32", memory_format="contiguous", why="asked for")


def _loss(step: int, value: float, **more: float) -> Metrics:
    return Metrics(phase="finetune", epoch=step // 10, step=step, values={"loss": value, **more})


def _series(hand, job, name: str = "loss") -> list[tuple[int, float]]:
    page = progress.metrics(hand.db, hand.project, job.id, names=[name])
    return [(metric.step, metric.value) for metric in page.items]


def test_every_kind_of_record_is_kept_in_its_place(hand, problem) -> None:
    job = hand.submit()
    place = {"phase": "finetune", "epoch": 2, "step": 20}
    record(
        hand.db,
        hand.claim(),
        [
            RunStarted(device="cpu", versions={"torch": "2"}, computation=COMPUTATION, time=5.0),
            Resumed(checkpoint="a.pt", **place),
            PhaseStarted(phase="finetune", epochs=3, steps_per_epoch=10),
            _loss(20, 0.5, accuracy=0.9),
            Progress(**place, fraction=0.7, images_per_second=99.0, eta_seconds=3.0),
            CheckpointSaved(file="b.pt", global_step=50, size_bytes=1, sha256="c" * 64, **place),
            Note(
                level="warning",
                code="bn.small",
                message="Small \0 batches.",
                details={"n": float("nan"), "nul": "\0"},
            ),
            PhaseFinished(phase="finetune", seconds=1.25),
            Interrupted(),
            Failed(problems=(problem, problem)),
            Finished(seconds=2.0),
        ],
    )
    assert hand.events(job)[2:] == [
        "run.started", "run.resumed", "phase.started", "checkpoint.saved", "note", "phase.finished",
        "run.interrupted", "run.failed", "run.finished",
    ]  # fmt: skip
    told = {event.type: event for event in progress.events(hand.db, hand.project, job.id)}
    assert told["run.started"].time == 5.0
    assert told["run.started"].data == {
        "device": "cpu",
        "versions": {"torch": "2"},
        "computation": COMPUTATION.model_dump(),
    }
    assert (told["note"].level, told["note"].message) == ("warning", "Small \ufffd batches.")
    assert told["note"].data["details"] == {"n": None, "nul": "\ufffd"}
    assert told["run.failed"].level == "error"
    assert told["run.failed"].message == f"{problem.message} {problem.message}"
    assert "b.pt" in told["checkpoint.saved"].message
    now = hand.get(job)
    assert (now.phase, now.epoch, now.step, now.progress) == ("finetune", 2, 20, 0.7)
    assert (now.images_per_second, now.eta_seconds) == (99.0, 3.0)
    assert _series(hand, job) == [(20, 0.5)]
    assert _series(hand, job, "accuracy") == [(20, 0.9)]


def test_a_phase_is_known_from_its_start(hand) -> None:
    job = hand.submit()
    record(hand.db, hand.claim(), [PhaseStarted(phase="transfer", epochs=3, steps_per_epoch=10)])
    assert (hand.get(job).phase, hand.get(job).step) == ("transfer", None)


def test_figures_of_a_later_attempt_replace_those_of_the_same_steps(hand) -> None:
    job = hand.submit()
    lease = hand.claim()
    record(hand.db, lease, [_loss(step, 1.0) for step in range(5)])
    requeue(hand.db, lease, "stopping")
    record(hand.db, hand.claim(), [_loss(step, 2.0) for step in range(3, 7)])
    assert _series(hand, job) == [(0, 1.0), (1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0), (5, 2.0), (6, 2.0)]


def test_within_a_batch_the_last_figure_wins(hand) -> None:
    job = hand.submit()
    record(hand.db, hand.claim(), [_loss(1, 1.0), _loss(1, 3.0)])
    assert _series(hand, job) == [(1, 3.0)]


def test_an_empty_batch_is_nothing(hand) -> None:
    job = hand.submit()
    record(hand.db, hand.claim(), [])
    assert hand.events(job) == ["job.queued", "job.running"]


def test_a_large_batch_is_one_transaction(hand) -> None:
    job = hand.submit()
    many = [_loss(step, float(step)) for step in range(3000)] + [Interrupted()] * 3000
    record(hand.db, hand.claim(), many)
    assert len(hand.events(job)) == 3002
    pages, after = [], None
    while True:
        page = progress.metrics(hand.db, hand.project, job.id, limit=700, after=after)
        pages += [metric.step for metric in page.items]
        after = page.next_cursor
        if after is None:
            break
    assert pages == list(range(3000))


def test_events_are_numbered_without_a_gap_when_many_write_at_once(hand) -> None:
    job = hand.submit()
    lease = hand.claim()

    def relay(number: int) -> None:
        for step in range(10):
            note = Note(level="info", code="x", message=f"{number}/{step}")
            record(hand.db, lease, [note, note, _loss(step, 1.0)])
            renew(hand.db, lease, 60)

    def user() -> None:
        jobs.request_pause(hand.db, hand.project, job.id)
        jobs.request_cancel(hand.db, hand.project, job.id)

    with ThreadPoolExecutor(7) as pool:
        for future in [pool.submit(user), *(pool.submit(relay, number) for number in range(6))]:
            future.result()
    types = hand.events(job)  # asserts the numbers
    assert types.count("note") == 120
    assert hand.get(job).event_seq == len(types)
    for number in range(6):
        told = [event.message for event in progress.events(hand.db, hand.project, job.id, limit=1000)]
        mine = [message for message in told if message.startswith(f"{number}/")]
        assert mine == [f"{number}/{step}" for step in range(10) for _ in range(2)]


def test_events_are_read_from_where_a_reader_was(hand) -> None:
    job = hand.submit()
    record(hand.db, hand.claim(), [Interrupted()] * 5)
    read = progress.events(hand.db, hand.project, job.id, 3, 2)
    assert [event.seq for event in read] == [4, 5]


def test_metrics_are_filtered(hand) -> None:
    job = hand.submit()
    transfer = Metrics(phase="transfer", epoch=0, step=1, values={"loss": 7.0, "similarity/a": 0.5})
    record(hand.db, hand.claim(), [transfer, _loss(1, 1.0)])
    rows = progress.metrics(hand.db, hand.project, job.id, phase="transfer").items
    assert [(row.name, row.value) for row in rows] == [("loss", 7.0), ("similarity/a", 0.5)]
    rows = progress.metrics(hand.db, hand.project, job.id, names=["loss"]).items
    assert [(row.phase, row.value) for row in rows] == [("finetune", 1.0), ("transfer", 7.0)]


def test_readers_need_the_project_and_a_good_cursor(hand) -> None:
    job = hand.submit()
    for read in (progress.events, progress.metrics):
        with pytest.raises(NotFound):
            read(hand.db, "prj_other", job.id)
    cursor = job_lists.list_jobs(hand.db, hand.project, limit=1).next_cursor
    assert cursor is None
    with pytest.raises(BadCursor):
        progress.metrics(hand.db, hand.project, job.id, after="WyJhIiwiYiIsMS41XQ")
