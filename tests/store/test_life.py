"""A job's life under whatever users, workers and the sweeper do, in any order, against a model of what is promised."""

import itertools
import json
from dataclasses import dataclass, field

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import select

from abcore.events import Metrics, Note
from abcore.specs.refusals import Problem
from store import datasets, job_lists, jobs, leases, progress, webhooks
from store.errors import Conflict, LeaseLost, NotCancellable, NotPausable, NotPaused
from store.leases import Directive, Lease, claim
from store.models import ENDED, Delivery, Job
from store.moves import NEXT
from store.outbox import EVENT_TYPES
from store.sweep import sweep

MAX_CRASHES = 3
PROBLEM = Problem(code="child.killed", message="Killed.")
WORKERS = ("one", "two", "three")
STATE_OF_EVENT = {f"job.{state}": state for state in NEXT}


@dataclass
class Expected:
    """What the promises say about one job."""

    state: str = "queued"
    holder: Lease | None = None
    stop: str | None = None
    epoch: int = 0
    crashes: int = 0
    waits: bool = False
    expired: bool = False
    figures: dict[int, float] = field(default_factory=dict)
    results: int = 0

    def leave(self, state: str) -> None:
        self.state, self.holder, self.stop, self.expired = state, None, None, False

    def give_back(self, *, crashed: bool) -> None:
        self.crashes += crashed and self.stop != "cancel"
        if self.stop == "cancel":
            self.leave("cancelled")
        elif crashed and self.crashes >= MAX_CRASHES:
            self.leave("failed")
        else:
            self.leave("paused" if self.stop == "pause" else "queued")
            self.waits = crashed


class Life(RuleBasedStateMachine):
    """Two jobs, three workers, their users, and time."""

    hand = None  # set by the test
    leases = Bundle("leases")
    values = itertools.count(1.0)

    def __init__(self) -> None:
        super().__init__()
        made = [self.hand.submit() for _ in range(2)]
        self.jobs: dict[str, Expected] = {job.id: Expected() for job in made}

    def teardown(self) -> None:
        for id_, expected in self.jobs.items():
            if expected.state not in ENDED:
                jobs.request_cancel(self.hand.db, self.hand.project, id_)
            if expected.holder is not None:
                leases.acknowledge_cancel(self.hand.db, expected.holder)

    @rule(target=leases, worker=st.sampled_from(WORKERS), expired=st.booleans())
    def worker_claims(self, worker: str, expired: bool) -> Lease | None:
        lease = claim(self.hand.db, worker, -1 if expired else 60)
        claimable = [id_ for id_, one in self.jobs.items() if one.state == "queued" and not one.waits]
        if not claimable:
            assert lease is None
            return None
        assert lease is not None
        assert lease.job.id == claimable[0], "the oldest comes first"
        one = self.jobs[lease.job.id]
        one.state, one.holder, one.expired = "running", lease, expired
        one.epoch += 1
        assert lease.epoch == one.epoch
        return lease

    @rule(lease=leases)
    def worker_renews(self, lease: Lease | None) -> None:
        if (one := self._fenced(lease, lambda: leases.renew(self.hand.db, lease, 60))) is not None:
            assert self.answer is Directive(one.stop)
            one.expired = False

    @rule(lease=leases, step=st.integers(0, 3))
    def worker_records(self, lease: Lease | None, step: int) -> None:
        value = next(self.values)
        told = [
            Metrics(phase="finetune", epoch=0, step=step, values={"loss": value}),
            Note(level="info", code="x", message="x"),
        ]
        if (one := self._fenced(lease, lambda: progress.record(self.hand.db, lease, told))) is not None:
            one.figures[step] = value

    @rule(lease=leases)
    def worker_requeues(self, lease: Lease | None) -> None:
        if (one := self._fenced(lease, lambda: leases.requeue(self.hand.db, lease, "stopping"))) is not None:
            one.give_back(crashed=False)

    @rule(lease=leases)
    def worker_reports_a_crash(self, lease: Lease | None) -> None:
        if (
            one := self._fenced(lease, lambda: leases.crash(self.hand.db, lease, PROBLEM, "", MAX_CRASHES))
        ) is not None:
            one.give_back(crashed=True)

    @rule(lease=leases)
    def worker_finishes(self, lease: Lease | None) -> None:
        report = self.hand.report(self.some_dataset)
        if (one := self._fenced(lease, lambda: leases.finish(self.hand.db, lease, report, []))) is not None:
            one.results += 1
            one.leave("succeeded")

    @rule(lease=leases)
    def worker_fails(self, lease: Lease | None) -> None:
        if (one := self._fenced(lease, lambda: leases.fail(self.hand.db, lease, [PROBLEM]))) is not None:
            one.leave("failed")

    @rule(lease=leases)
    def worker_acknowledges_a_cancel(self, lease: Lease | None) -> None:
        if lease is None or self.jobs[lease.job.id].stop != "cancel":
            return
        if (one := self._fenced(lease, lambda: leases.acknowledge_cancel(self.hand.db, lease))) is not None:
            one.leave("cancelled")

    @rule()
    def anyone_sweeps(self) -> None:
        lost = {id_ for id_, one in self.jobs.items() if one.expired}
        assert set(sweep(self.hand.db, sweep_seconds=0, max_crashes=MAX_CRASHES).recovered) == lost
        for id_ in lost:
            self.jobs[id_].give_back(crashed=True)

    @rule()
    def time_passes(self) -> None:
        self.hand.let_wait_pass()
        for one in self.jobs.values():
            one.waits = False

    @rule(number=st.integers(0, 1))
    def user_cancels(self, number: int) -> None:
        one = self._asked(number, jobs.request_cancel, NotCancellable, {"queued", "running", "paused"})
        if one is not None:
            if one.state == "running":
                one.stop = "cancel"
            else:
                one.leave("cancelled")

    @rule(number=st.integers(0, 1))
    def user_pauses(self, number: int) -> None:
        one = self._asked(number, jobs.request_pause, NotPausable, {"queued", "running"})
        if one is not None:
            if one.state == "running":
                one.stop = one.stop or "pause"
            else:
                one.leave("paused")
                one.waits = False

    @rule(number=st.integers(0, 1))
    def user_resumes(self, number: int) -> None:
        one = self._asked(number, jobs.resume, NotPaused, {"paused"})
        if one is not None:
            one.state = "queued"

    @invariant()
    def everything_is_as_promised(self) -> None:
        for id_, one in self.jobs.items():
            job = jobs.get(self.hand.db, self.hand.project, id_)
            assert (job.state, job.stop_requested, job.crashes) == (one.state, one.stop, one.crashes)
            assert (job.lease_epoch, job.attempts) == (one.epoch, one.epoch)
            assert job.lease_owner == (one.holder.owner if one.holder else None)
            assert (job.ended_at is not None) == (job.state in ENDED)
            rows = progress.metrics(self.hand.db, self.hand.project, id_).items
            assert {row.step: row.value for row in rows} == one.figures
            self._history_is_legal(job, one)

    def _history_is_legal(self, job: Job, one: Expected) -> None:
        types = self.hand.events(job)  # asserts that numbers have no gap
        states = [STATE_OF_EVENT[type_] for type_ in types if type_ in STATE_OF_EVENT]
        assert states[0] == "queued"
        assert all(after in NEXT[before] for before, after in itertools.pairwise(states)), states
        assert states[-1] == job.state
        assert types.count("job.succeeded") == one.results <= 1
        assert types.count("job.running") == one.epoch
        # Whoever asked to be told is told of each of these states, and of nothing else.
        with self.hand.db.read() as session:
            bodies = session.scalars(select(Delivery.body).where(Delivery.body.contains(job.id)))
            assert sorted(json.loads(body)["data"]["state"] for body in bodies) == sorted(states)

    def _fenced(self, lease: Lease | None, write) -> Expected | None:
        """Let a worker write; return what to expect of the job if it had the right to; else it must be refused."""
        if lease is None:
            return None
        one = self.jobs[lease.job.id]
        if one.holder is lease:
            self.answer = write()
            return one
        with pytest.raises(LeaseLost):
            write()
        return None

    def _asked(self, number: int, ask, refusal: type[Conflict], allowed: set[str]) -> Expected | None:
        id_, one = list(self.jobs.items())[number]
        if one.state in allowed:
            ask(self.hand.db, self.hand.project, id_)
            return one
        with pytest.raises(refusal):
            ask(self.hand.db, self.hand.project, id_)
        return None


@pytest.mark.parametrize("examples", [8, pytest.param(200, marks=pytest.mark.slow)])
def test_a_jobs_life_keeps_its_promises(hand, examples: int) -> None:
    dataset = datasets.create(hand.db, hand.project, name="d", filename="d.npz")
    hand.submit()
    jobs.request_cancel(hand.db, hand.project, job_lists.list_jobs(hand.db, hand.project).items[0].id)
    webhooks.create(hand.db, hand.project, url="https://example.com/", events=list(EVENT_TYPES), most=1)
    machine = type("OneLife", (Life,), {"hand": hand, "some_dataset": dataset})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
