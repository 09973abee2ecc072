"""A worker's side: every write is fenced, a result is all or nothing, crashes are counted."""

from collections.abc import Callable

import pytest
from sqlalchemy import select

from abcore.events import CheckpointSaved, Metrics, Progress
from abcore.specs.refusals import Problem
from store import artifacts, datasets, endings, leases, teachers
from store.errors import LeaseLost, NotFound
from store.jobs import request_cancel, request_pause, resume
from store.leases import Directive, Lease, claim, renew
from store.models import Artifact, Event, Job, Metric
from store.moves import Fence, NewEvent, change
from store.progress import record
from store.sweep import sweep

TICK = Progress(phase="finetune", epoch=1, step=10, fraction=0.5, images_per_second=100.0, eta_seconds=9.0)


def _report(hand):
    return hand.report(datasets.create(hand.db, hand.project, name="any", filename="x"))


WRITES: dict[str, Callable[..., object]] = {
    "renew": lambda hand, lease: renew(hand.db, lease, 60),
    "record": lambda hand, lease: record(hand.db, lease, [TICK]),
    "requeue": lambda hand, lease: leases.requeue(hand.db, lease, "stopping"),
    "crash": lambda hand, lease: leases.crash(hand.db, lease, Problem(code="x", message="x"), ""),
    "finish": lambda hand, lease: leases.finish(hand.db, lease, _report(hand), [hand.file("student")]),
    "fail": lambda hand, lease: leases.fail(hand.db, lease, [Problem(code="x", message="x")]),
    "acknowledge_cancel": lambda hand, lease: leases.acknowledge_cancel(hand.db, lease),
    "add_checkpoint": lambda hand, lease: artifacts.add_checkpoint(hand.db, lease, hand.file("checkpoint")),
}


@pytest.fixture(params=sorted(WRITES))
def write(request: pytest.FixtureRequest):
    return WRITES[request.param]


def _snapshot(hand, job: Job) -> object:
    with hand.db.read() as session:
        row = session.get(Job, job.id)
        rows = [
            list(session.execute(select(table).where(table.job_id == job.id)))
            for table in (Event, Metric, Artifact)
        ]
        return {name: value for name, value in vars(row).items() if name[0] != "_"}, [
            len(each) for each in rows
        ]


def test_an_old_lease_can_write_nothing(hand, write) -> None:
    job = hand.submit()
    old = hand.claim("one", seconds=-1)
    assert sweep(hand.db, sweep_seconds=0).recovered == [job.id]
    hand.let_wait_pass()
    hand.claim("one")  # the same worker again: its old epoch is worth nothing even so
    before = _snapshot(hand, job)
    with pytest.raises(LeaseLost, match="stop its child"):
        write(hand, old)
    assert _snapshot(hand, job) == before


def test_a_lease_that_was_taken_back_can_write_nothing(hand, write) -> None:
    job = hand.submit()
    old = hand.claim(seconds=-1)
    sweep(hand.db, sweep_seconds=0)
    before = _snapshot(hand, job)
    with pytest.raises(LeaseLost):
        write(hand, old)
    assert _snapshot(hand, job) == before


def test_anothers_lease_of_the_same_epoch_can_write_nothing(hand, write) -> None:
    hand.submit()
    lease = hand.claim("one")
    with pytest.raises(LeaseLost):
        write(hand, Lease(lease.job, lease.epoch, "two"))


def test_an_ended_job_can_not_be_written(hand, write) -> None:
    hand.submit()
    lease = hand.claim()
    leases.fail(hand.db, lease, [Problem(code="x", message="x")])
    with pytest.raises(LeaseLost):
        write(hand, lease)


def test_renewal_keeps_a_job_from_the_sweeper(hand) -> None:
    job = hand.submit()
    lease = hand.claim(seconds=-1)
    assert renew(hand.db, lease, 60) is Directive.CONTINUE
    assert sweep(hand.db, sweep_seconds=0).recovered == []
    assert hand.get(job).state == "running"


def test_renewal_brings_what_the_user_wants(hand) -> None:
    job = hand.submit()
    lease = hand.claim()
    request_pause(hand.db, hand.project, job.id)
    assert renew(hand.db, lease, 60) is Directive.PAUSE
    request_cancel(hand.db, hand.project, job.id)
    assert renew(hand.db, lease, 60) is Directive.CANCEL


def test_a_requeue_costs_nothing_and_can_be_claimed_at_once(hand) -> None:
    job = hand.submit()
    waiting = leases.requeue(hand.db, hand.claim(), "The worker is being updated.")
    assert (waiting.state, waiting.crashes, waiting.lease_owner) == ("queued", 0, None)
    assert waiting.state_reason == "The worker is being updated."
    lease = hand.claim()
    assert (lease.job.id, lease.epoch, lease.job.attempts) == (job.id, 2, 2)
    assert lease.job.started_at == waiting.started_at


def test_crashes_count_anew_when_the_job_has_got_further(hand, problem) -> None:
    """A long job outlives any number of lost machines; one that breaks again and again at one place does not."""
    job = hand.submit()

    def crash_at(global_step: int) -> Job:
        lease = hand.claim()
        saved = CheckpointSaved(
            file="c",
            phase="finetune",
            epoch=0,
            step=1,
            global_step=global_step,
            size_bytes=1,
            sha256="c" * 64,
        )
        record(hand.db, lease, [saved])
        crashed = leases.crash(hand.db, lease, problem, "lines")
        hand.let_wait_pass()
        return crashed

    assert [crash_at(step).crashes for step in (10, 20, 30, 30, 5)] == [1, 1, 1, 2, 3]
    assert hand.get(job).state == "failed"


def test_three_crashes_end_a_job_with_its_last_log_lines(hand, problem) -> None:
    job = hand.submit()
    waits = []
    for _ in range(2):
        crashed = leases.crash(hand.db, hand.claim(), problem, "lines")
        assert crashed.state == "queued"
        assert claim(hand.db, "worker", 60) is None, "a crashed job waits"
        waits.append(crashed.not_before - crashed.updated_at)
        hand.let_wait_pass()
    ended = leases.crash(hand.db, hand.claim(), problem, "a" * 9000 + "the last line")
    assert waits == pytest.approx([5, 20], abs=0.1)
    assert (ended.state, ended.crashes) == ("failed", 3)
    assert ended.ended_at is not None
    assert ended.problems[0]["code"] == "job.crashed"
    assert "signal 9" in ended.problems[0]["message"]
    assert ended.problems[0]["value"].endswith("the last line")
    assert len(ended.problems[0]["value"]) == endings.LOG_TAIL_CHARACTERS
    assert hand.events(job) == [
        "job.queued", "job.running", "job.crashed", "job.queued", "job.running", "job.crashed",
        "job.queued", "job.running", "job.crashed", "job.failed",
    ]  # fmt: skip


def test_a_log_that_no_database_can_hold_is_recorded_all_the_same(hand) -> None:
    hand.submit()
    bad = Problem(code="x", message="nul \0 and \ud800", value=[float("inf"), {"\0": "\0"}])
    ended = leases.crash(hand.db, hand.claim(), bad, "tail \0 \udfff", max_crashes=1)
    assert ended.problems[0]["value"] == "tail \ufffd ?"
    assert (
        hand.get(ended).state_reason
        == "The job crashed 1 times without getting further; the last time: nul \ufffd and ?"
    )


def test_a_cancel_ends_in_cancelled_however_the_attempt_ends(hand, problem) -> None:
    endings = [
        lambda lease: leases.acknowledge_cancel(hand.db, lease),
        lambda lease: leases.requeue(hand.db, lease, "stopping"),
        lambda lease: leases.crash(hand.db, lease, problem, "", max_crashes=1),
        lambda _lease: sweep(hand.db, sweep_seconds=0),
    ]
    for end in endings:
        job = hand.submit()
        lease = hand.claim(seconds=-1)
        request_cancel(hand.db, hand.project, job.id)
        end(lease)
        ended = hand.get(job)
        assert (ended.state, ended.stop_requested, ended.lease_owner) == ("cancelled", None, None)
        assert hand.events(job)[-1] == "job.cancelled"


def test_a_pause_holds_until_it_is_resumed(hand) -> None:
    job = hand.submit()
    lease = hand.claim()
    request_pause(hand.db, hand.project, job.id)
    assert leases.requeue(hand.db, lease, "stopping").state == "paused"
    assert claim(hand.db, "worker", 60) is None
    resume(hand.db, hand.project, job.id)
    assert hand.claim().job.id == job.id
    assert hand.events(job) == [
        "job.queued", "job.running", "job.pause_requested", "job.paused", "job.queued", "job.running",
    ]  # fmt: skip


def test_a_result_that_comes_before_the_cancel_is_heard_stays(hand) -> None:
    job = hand.submit()
    lease = hand.claim()
    request_cancel(hand.db, hand.project, job.id)
    assert WRITES["finish"](hand, lease).state == "succeeded"
    assert hand.get(job).stop_requested is None


def test_a_result_is_committed_whole(hand) -> None:
    job = hand.submit()
    report = _report(hand)
    leases.finish(hand.db, hand.claim(), report, [hand.file("student"), hand.file("report", "report.json")])
    ended = hand.get(job)
    assert (ended.state, ended.progress, ended.lease_owner) == ("succeeded", 1.0, None)
    assert ended.report == report.model_dump(mode="json")
    assert ended.ended_at >= ended.started_at >= ended.created_at
    files = artifacts.list_(hand.db, hand.project, job.id)
    assert [file.name for file in files] == ["report.json", "student.safetensors"]
    assert {file.lease_epoch for file in files} == {1}


def test_a_result_whose_files_clash_is_not_committed_at_all(hand) -> None:
    job = hand.submit()
    lease = hand.claim()
    with pytest.raises(Exception, match=r"(?i)unique"):
        leases.finish(hand.db, lease, _report(hand), [hand.file("student"), hand.file("student")])
    assert hand.get(job).state == "running"
    assert artifacts.list_(hand.db, hand.project, job.id) == []
    assert hand.events(job) == ["job.queued", "job.running"]


def test_a_refusal_ends_a_job_with_its_problems(hand, problem) -> None:
    job = hand.submit()
    leases.fail(hand.db, hand.claim(), [problem, Problem(code="other", message="Other.")])
    ended = hand.get(job)
    assert (ended.state, ended.crashes, ended.state_reason) == ("failed", 0, problem.message)
    assert [each["code"] for each in ended.problems] == ["child.killed", "other"]


@pytest.mark.parametrize("of", [teachers, datasets])
def test_a_verification_makes_its_upload_ready(hand, of) -> None:
    row = hand.verified(_announced(hand, of))
    assert (row.state, row.state_detail, row.problems) == ("ready", None, None)
    assert (row.upload_sha256, row.upload_bytes) == ("1" * 64, 3)
    assert (row.sha256, row.size_bytes) == ("2" * 64, 5)
    assert row.blob_key.startswith("jobs/x/")
    assert row.report == hand.report(row).model_dump(mode="json")


@pytest.mark.parametrize("of", [teachers, datasets])
@pytest.mark.parametrize("ending", ["fail", "crash", "expiry", "cancel"])
def test_a_verification_that_does_not_succeed_makes_its_upload_invalid(hand, of, ending, problem) -> None:
    row = _announced(hand, of)
    of.attach_upload(hand.db, hand.project, row.id, "uploads/x/1", "1" * 64, 3)
    lease = hand.claim(seconds=-1)
    if ending == "fail":
        leases.fail(hand.db, lease, [problem])
    elif ending == "crash":
        leases.crash(hand.db, lease, problem, "", max_crashes=1)
    elif ending == "expiry":
        sweep(hand.db, sweep_seconds=0, max_crashes=1)
    else:
        leases.acknowledge_cancel(hand.db, lease)
    now = of.get(hand.db, hand.project, row.id)
    assert now.state == "invalid"
    assert now.state_detail
    codes = {
        "fail": "child.killed",
        "crash": "job.crashed",
        "expiry": "job.crashed",
        "cancel": "verification.cancelled",
    }
    assert [each["code"] for each in now.problems] == [codes[ending]]


def test_a_verification_without_its_file_is_an_error(hand) -> None:
    row = _announced(hand, teachers)
    teachers.attach_upload(hand.db, hand.project, row.id, "uploads/x/1", "1" * 64, 3)
    with pytest.raises(ValueError, match="teacher"):
        leases.finish(hand.db, hand.claim(), hand.report(row), [])
    assert teachers.get(hand.db, hand.project, row.id).state == "pending"


def test_figures_and_checkpoints_of_an_attempt_outlive_it(hand) -> None:
    job = hand.submit()
    lease = hand.claim()
    record(hand.db, lease, [Metrics(phase="finetune", epoch=0, step=1, values={"loss": 1.0})])
    gone = [
        list(artifacts.add_checkpoint(hand.db, lease, hand.file("checkpoint", name)))
        for name in ("1.pt", "2.pt", "3.pt")
    ]
    assert gone == [[], [], ["jobs/x/1.pt"]]
    leases.requeue(hand.db, lease, "stopping")
    later = hand.claim()
    assert [each.name for each in artifacts.checkpoints(hand.db, later)] == ["3.pt", "2.pt"]
    assert list(artifacts.add_checkpoint(hand.db, later, hand.file("checkpoint", "2.pt"))) == []
    assert [(each.name, each.lease_epoch) for each in artifacts.checkpoints(hand.db, later)] == [
        ("2.pt", 2),
        ("3.pt", 1),
    ]
    assert artifacts.get(hand.db, hand.project, job.id, "3.pt").kind == "checkpoint"


def _announced(hand, of):
    if of is teachers:
        return teachers.create(hand.db, hand.project, name="t", model=hand.model)
    return datasets.create(hand.db, hand.project, name="d", filename="d.zip")


def test_files_are_found_by_id_and_by_name_within_their_project(hand) -> None:
    job = hand.submit()
    leases.finish(hand.db, hand.claim(), _report(hand), [hand.file("student")])
    (file,) = artifacts.list_(hand.db, hand.project, job.id)
    for name in (file.id, file.name):
        assert artifacts.get(hand.db, hand.project, job.id, name).sha256 == "2" * 64
    with pytest.raises(NotFound, match=r"none\.pt"):
        artifacts.get(hand.db, hand.project, job.id, "none.pt")
    for look in (artifacts.list_, lambda *place: artifacts.get(*place, file.id)):
        with pytest.raises(NotFound):
            look(hand.db, "prj_other", job.id)


@pytest.mark.parametrize(
    "wrong", [{"state": "paused"}, {"epoch": 1}, {"owner": "someone"}, {"job_id": "job_none"}]
)
def test_a_change_is_made_only_where_all_is_as_believed(hand, wrong) -> None:
    job = hand.submit()
    with pytest.raises(LeaseLost), hand.db.write() as session:
        change(session, Fence.of(job)._replace(**wrong), [NewEvent("job.updated", "x")], name="changed")
    assert hand.get(job).name is None
    assert hand.events(job) == ["job.queued"]


def test_a_log_is_kept_whatever_becomes_of_its_attempt_and_the_last_one_stays(hand, problem) -> None:
    job = hand.submit()
    for _ in range(2):
        lease = hand.claim()
        artifacts.add(hand.db, lease, hand.file("log", "log.txt"))
        leases.crash(hand.db, lease, problem, "")
        hand.let_wait_pass()
    leases.finish(hand.db, hand.claim(), _report(hand), [hand.file("student"), hand.file("log", "log.txt")])
    files = artifacts.list_(hand.db, hand.project, job.id)
    assert [(file.name, file.lease_epoch) for file in files] == [("log.txt", 3), ("student.safetensors", 3)]
    with pytest.raises(LeaseLost):
        artifacts.add(hand.db, lease, hand.file("log", "log.txt"))
