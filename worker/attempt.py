"""One attempt at one job: from its claim to an outcome in the store."""

import logging
import math
import signal
import time
from collections.abc import Callable
from threading import Event
from typing import Literal, TypeVar

from sqlalchemy.exc import InterfaceError, OperationalError

import leash
from abcore.specs.refusals import Problem, Refusal
from abcore.specs.runs import ExitCode, RunResult
from store import artifacts, leases
from store.errors import BlobError, BlobsUnusable, LeaseLost, StoreError
from store.leases import Directive, Lease, NewArtifact
from store.models import ENDED, Job
from worker.answer_cache import group_of
from worker.heartbeat import RETRY_SECONDS, Heartbeat
from worker.inputs import InputMissing, lay_out
from worker.publish import BadResult, log_tail, publish, publish_log, read_result
from worker.relay import BrokenProtocol, Relay
from worker.trouble import MOST_STALLS, Headway, MemoryWatch, Stalled, out_of_memory, stalled
from worker.workshop import Workshop
from worker.workspace import Workspace

TICK_SECONDS = 0.1
RELAY_SECONDS = 0.5
LATE_SIGNAL_SECONDS = 1.0
BLOBS_SECONDS = 10.0
STOPPING = "Its worker was stopped in good order."

Stop = Literal["cancel", "pause", "time", "shutdown"]
T = TypeVar("T")

_log = logging.getLogger(__name__)


class Attempt:
    """Runs the child of one lease and writes down how it ended. `stopping` is set when the worker shall end."""

    def __init__(
        self, workshop: Workshop, lease: Lease, slot: int, stopping: Event, claimed_at: float
    ) -> None:
        self._workshop = workshop
        self._db = workshop.db
        self._lease = lease
        self._slot = slot
        self._stopping = stopping
        self._heartbeat = Heartbeat(workshop.db, lease, workshop.settings, claimed_at)
        self._asked_to_stop: Stop | None = None
        self._upload_key: str | None = None

    def run(self) -> None:
        """Run the job once. Never raises: what goes wrong is the job's outcome, or a line in the log."""
        job_id = self._lease.job.id
        _log.info("job %s: attempt %d starts", job_id, self._lease.job.attempts)
        with self._heartbeat:
            try:
                job = self._outcome()
            except LeaseLost as lost:
                # What was published stays: if it is our own commit that took the lease, it is the job's result.
                _log.warning("job %s: dropped: %s", job_id, lost)
                return
            except Exception:
                _log.exception("job %s: could not write down how it ended; its lease will run out", job_id)
                return
        _log.info("job %s: %s%s", job_id, job.state, f" ({job.state_reason})" if job.state_reason else "")
        if self._upload_key is not None and job.state in ENDED:
            # It was read, and is needed no more, whatever it was.
            try:
                self._workshop.blobs.delete(self._upload_key)
            except BlobError as error:
                _log.warning("job %s: its upload was not removed: %s", job_id, error)

    def _outcome(self) -> Job:
        try:
            with self._workshop.workspaces.room(f"{self._lease.job.id}-{self._lease.epoch}") as workspace:
                return self._run_in(workspace)
        except Refusal as error:  # of what was to be read: trying again cannot help
            problems = [error.problem]
            return self._commit(lambda: leases.fail(self._db, self._lease, problems))
        except BlobsUnusable as error:  # nobody's fault who waits for the job: it is not charged
            _log.warning("job %s: %s", self._lease.job.id, error)
            self._stopping.wait(BLOBS_SECONDS)
            reason = str(error)
            return self._commit(lambda: leases.requeue(self._db, self._lease, reason))
        except (InputMissing, StoreError) as error:
            if isinstance(error, LeaseLost):
                raise
            problem = Problem(
                code="worker.input_missing", message=f"The inputs could not be laid out: {error}"
            )
        except Exception as error:
            _log.exception("job %s: the attempt broke", self._lease.job.id)
            problem = Problem(
                code="worker.error",
                message=f"The worker could not run the job: {type(error).__name__}: {error}",
                hint="The worker's log holds the whole of it.",
            )
        return self._crash(problem, "")

    def _run_in(self, workspace: Workspace) -> Job:
        shop = self._workshop
        self._upload_key = lay_out(shop, self._lease, workspace)
        group = group_of(self._db, self._lease.job)
        if group is not None:
            shop.answers.lend(group, workspace.teacher_cache)
        if self._should_stop():
            return self._stopped()
        with shop.sharing.fetching(self._lease.job.project_id, group, workspace) as answers:
            relay = Relay(self._db, shop.blobs, self._lease, workspace, answers.fetch)
            return self._run_laid_out(workspace, group, relay)

    def _run_laid_out(self, workspace: Workspace, group: str | None, relay: Relay) -> Job:
        shop = self._workshop
        run, memory = self._lease.job.run, MemoryWatch()
        halvings = leases.memory_crashes(self._db, self._lease)
        child = shop.guardian.start(workspace, run, self._slot, halvings)
        try:
            self._heartbeat.guard(child)
            headway = Headway(workspace, run, shop.settings.stall_seconds)
            code = self._watch(child, relay, lambda: headway.check(child, workspace.log))
            self._commit(self._heartbeat.child_ended)
            self._commit(lambda: relay.pump(last=True))
        except Stalled as error:
            child.kill()
            child.wait()
            self._commit(lambda: relay.pump(last=True))
            self._publish_log(workspace)
            return self._crash(stalled(error), log_tail(workspace), MOST_STALLS)
        except BrokenProtocol as error:
            child.kill()
            return self._crash(Problem(code="child.protocol", message=str(error)), log_tail(workspace))
        finally:
            child.kill()
            child.wait()
        self._publish_log(workspace)
        job = self._conclude(code, relay, workspace, memory)
        if group is not None and code in (ExitCode.DONE, ExitCode.INTERRUPTED):
            self._keep_answers(group, workspace)
        return job

    def _watch(self, child: leash.Leashed, relay: Relay, check_headway: Callable[[], None]) -> int:
        """Wait for the child's end, passing on what it tells and what is wanted of it; return its exit code.

        Raises:
            Stalled, BrokenProtocol, LeaseLost
        """
        relay_at = time.monotonic() + RELAY_SECONDS
        while (code := child.wait(TICK_SECONDS)) is None:
            self._heartbeat.check()
            if self._asked_to_stop is None and self._should_stop():
                child.terminate()
            if self._asked_to_stop is None:
                check_headway()
            if time.monotonic() >= relay_at:
                try:
                    relay.pump()
                except (OperationalError, InterfaceError) as error:
                    _log.warning("job %s: events wait for the database: %s", self._lease.job.id, error)
                relay_at = time.monotonic() + RELAY_SECONDS
        self._heartbeat.check()
        return code

    def _should_stop(self) -> bool:
        """Look, and remember, whether anybody wants the child to end."""
        match self._heartbeat.directive:
            case Directive.CANCEL:
                self._asked_to_stop = "cancel"
            case Directive.PAUSE:
                self._asked_to_stop = "pause"
            case Directive.CONTINUE if self._seconds_left() <= 0:
                self._asked_to_stop = "time"
            case Directive.CONTINUE if self._stopping.is_set():
                self._asked_to_stop = "shutdown"
        return self._asked_to_stop is not None

    def _conclude(self, code: int, relay: Relay, workspace: Workspace, memory: MemoryWatch) -> Job:
        if code == ExitCode.DONE:
            try:
                return self._finish(workspace)
            except BadResult as error:
                return self._crash(Problem(code="child.bad_result", message=str(error)), log_tail(workspace))
        if code == ExitCode.REFUSED and relay.problems:
            problems = relay.problems
            return self._commit(lambda: leases.fail(self._db, self._lease, problems))
        if self._asked_to_stop is not None:
            return self._stopped()
        # A signal to the whole service reaches the child at once, and us perhaps a moment later.
        if code == ExitCode.INTERRUPTED and self._stopping.wait(LATE_SIGNAL_SECONDS):
            return self._stopped()
        problem = out_of_memory(code) if memory.explains(code) else _how_it_ended(code)
        return self._crash(problem, log_tail(workspace))

    def _finish(self, workspace: Workspace) -> Job:
        result = read_result(workspace)
        published = self._publish(workspace, result)
        return self._commit(lambda: leases.finish(self._db, self._lease, result.report, published))

    def _publish(self, workspace: Workspace, result: RunResult) -> list[NewArtifact]:
        """Put the outputs into the blob store, again while it is away: they cost more than the waiting does."""
        while True:
            self._heartbeat.check()
            try:
                return publish(self._workshop.blobs, self._lease, workspace, result)
            except BlobsUnusable as error:
                if self._should_stop():
                    raise
                _log.warning("job %s: its outputs wait for the blob store: %s", self._lease.job.id, error)
                self._stopping.wait(RETRY_SECONDS)

    def _seconds_left(self) -> float:
        """How long the job may still run, by this machine's monotonic clock and what earlier attempts took."""
        job = self._lease.job
        if job.max_runtime_seconds is None:
            return math.inf
        return job.max_runtime_seconds - job.run_seconds - self._heartbeat.attempt_seconds

    def _stopped(self) -> Job:
        """Write down that the child ended because it was asked to."""
        if self._asked_to_stop == "cancel":
            return self._commit(lambda: leases.acknowledge_cancel(self._db, self._lease))
        if self._asked_to_stop == "time":
            problem = _out_of_time(self._lease.job)
            return self._commit(lambda: leases.fail(self._db, self._lease, [problem]))
        return self._commit(lambda: leases.requeue(self._db, self._lease, STOPPING))

    def _crash(self, problem: Problem, tail: str, most: int | None = None) -> Job:
        most = most or self._workshop.settings.max_crashes
        return self._commit(lambda: leases.crash(self._db, self._lease, problem, tail, most))

    def _commit(self, write: Callable[[], T]) -> T:
        """Write to the store, again while the database is away, as long as the lease must still be ours."""
        while True:
            self._heartbeat.check()
            try:
                return write()
            except (OperationalError, InterfaceError) as error:
                _log.warning("job %s: the database is away: %s", self._lease.job.id, error)
                time.sleep(RETRY_SECONDS)

    def _keep_answers(self, group: str, workspace: Workspace) -> None:
        try:
            made = self._workshop.answers.adopt(group, workspace.teacher_cache)
            self._workshop.sharing.put(self._lease.job.project_id, group, made)
        except OSError as error:  # the next job asks its teacher again
            _log.warning("job %s: what its teacher answered was not kept: %s", self._lease.job.id, error)

    def _publish_log(self, workspace: Workspace) -> None:
        try:
            published = publish_log(self._workshop.blobs, self._lease, workspace)
            if published is not None:
                artifacts.add(self._db, self._lease, published)
        except LeaseLost:
            raise
        except Exception as error:  # a job does not fail for its log
            _log.warning("job %s: its log was not kept: %s", self._lease.job.id, error)


def _out_of_time(job: Job) -> Problem:
    return Problem(
        code="job.max_runtime",
        message=f"The job was stopped: it had run for {job.max_runtime_seconds} s, its limit over all attempts.",
        where="max_runtime_seconds",
        value=job.max_runtime_seconds,
        allowed=(f"> {job.max_runtime_seconds}", "null"),
    )


def _how_it_ended(code: int) -> Problem:
    if code >= 0:
        return Problem(code="child.crashed", message=f"The job's process ended with exit code {code}.")
    name = signal.Signals(-code).name if -code in signal.valid_signals() else "unknown"
    hint = "Perhaps the machine ran out of memory." if -code == signal.SIGKILL else None
    return Problem(
        code="child.killed", message=f"The job's process was killed by signal {-code} ({name}).", hint=hint
    )
