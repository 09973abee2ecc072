"""How an attempt ends without a result: given back, crashed, cancelled, failed. All within the caller's transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from abcore.specs.refusals import Problem
from store.columns import unix_now
from store.models import Job, JobState
from store.moves import REACHED, UNLEASED, Fence, NewEvent, move

LOG_TAIL_CHARACTERS = 8000
FIRST_BACKOFF_SECONDS = 5.0
LONGEST_BACKOFF_SECONDS = 300.0


@dataclass(frozen=True)
class Crash:
    """Why an attempt ended without a result: the problem, and the last of what its child wrote."""

    problem: Problem
    log_tail: str = ""


def charge(session: Session, job: Job, crash: Crash, max_crashes: int) -> Job:
    """Count a crash against a locked running job, and queue or fail it accordingly.

    A job that got further since its last crash starts counting anew: a long one may outlive any number of bad machines,
    and one that always breaks at the same place still ends.
    """
    crashes = 1 if job.checkpoint_step > job.crash_step else job.crashes + 1
    tail = crash.log_tail[-LOG_TAIL_CHARACTERS:]
    event = NewEvent(
        "job.crashed",
        f"Attempt {job.attempts} crashed: {crash.problem.message}",
        level="error",
        data={"problem": crash.problem.model_dump(mode="json"), "log_tail": tail, "crashes": crashes},
    )
    counted = {"crashes": crashes, "crash_step": job.checkpoint_step}
    if crashes >= max_crashes and job.stop_requested != "cancel":
        problem = Problem(
            code="job.crashed",
            message=f"The job crashed {crashes} times without getting further; the last time: {crash.problem.message}",
            value=tail or None,
            hint=crash.problem.hint or "`value` holds the last lines of its log.",
        )
        return failed(session, Fence.of(job), problem.message, [problem], [event], **counted)
    wait_seconds = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 4 ** (crashes - 1))
    reason = f"Crashed {crashes} of at most {max_crashes} times; tried again after {wait_seconds:g} s."
    return give_back(session, job, reason, [event], **counted, not_before=unix_now() + wait_seconds)


def give_back(
    session: Session, job: Job, reason: str, events: Sequence[NewEvent] = (), **columns: Any
) -> Job:
    """Take a locked running job from its worker: to the queue, or to where its user wanted it."""
    fence = Fence.of(job)
    if job.stop_requested == "cancel":
        return cancelled(session, fence, events)
    to: JobState = "queued"
    if job.stop_requested == "pause":
        to, reason = "paused", "Paused by its user."
    return move(
        session,
        fence,
        to,
        [*events, NewEvent(REACHED[to], reason)],
        state_reason=reason,
        **UNLEASED,
        **columns,
    )


def cancelled(session: Session, fence: Fence, events: Sequence[NewEvent] = ()) -> Job:
    """End a running job because its user asked for that."""
    reason = "Cancelled by its user while it ran."
    cancelled = NewEvent("job.cancelled", reason)
    return move(session, fence, "cancelled", [*events, cancelled], state_reason=reason, **UNLEASED)


def failed(
    session: Session,
    fence: Fence,
    reason: str,
    problems: Sequence[Problem],
    events: Sequence[NewEvent] = (),
    **columns: Any,
) -> Job:
    """End a running job that shall not be tried again."""
    written = [problem.model_dump(mode="json") for problem in problems]
    failed = NewEvent("job.failed", reason, level="error", data={"problems": written})
    return move(
        session,
        fence,
        "failed",
        [*events, failed],
        state_reason=reason,
        problems=written,
        **UNLEASED,
        **columns,
    )
