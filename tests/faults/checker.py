"""What must be true when all is over, read from the rows and files that are left."""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import NamedTuple

from sqlalchemy import select

from store.blobs import BlobStore
from store.database import Database
from store.errors import BlobError
from store.models import ENDED, Artifact, Dataset, Event, Job, Metric, Teacher
from store.moves import NEXT
from store.references import referenced

STATES = {f"job.{state}": state for state in NEXT}
"""Events that tell of a job's new state."""

RESULTS = ("student", "report")
"""Kinds of files of which a job that succeeded has one each, and no other job any."""

Curves = Mapping[tuple[str, str, int], float]


class Reference(NamedTuple):
    """What a recipe gives that nobody disturbed: the student's sha256, and all figures by phase, name and step."""

    sha256: str
    figures: Curves


@dataclass
class Verdict:
    """All that is wrong, each a sentence. Empty lists are the promise."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    illegal: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    wrong_bytes: list[str] = field(default_factory=list)
    orphan_blobs: list[str] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        return {one.name: len(getattr(self, one.name)) for one in fields(self)}


def reference_of(db: Database, job_id: str) -> Reference:
    """Take an undisturbed job for what its recipe gives."""
    with db.read() as session:
        student = session.scalars(
            select(Artifact).where(Artifact.job_id == job_id, Artifact.kind == "student")
        ).one()
    return Reference(student.sha256, _figures(db, job_id))


def job_counts(db: Database) -> dict[str, int]:
    """How many jobs there were, and how often they were begun, given back, paused, broken off and taken back."""
    with db.read() as session:
        kinds = Counter(session.scalars(select(Job.kind)))
        states = Counter(session.scalars(select(Job.state)))
        types = Counter(session.scalars(select(Event.type)))
    return {
        "jobs": kinds.total(),
        "of them distillations": kinds["distill"],
        "of them verifications": kinds["verify_dataset"] + kinds["verify_teacher"],
        "of them cancelled": states["cancelled"],
        "attempts": types["job.running"],
        "attempts that went on from a checkpoint": types["run.resumed"],
        "crashes charged": types["job.crashed"],
    }


def check(
    db: Database,
    blobs: BlobStore,
    asked: Mapping[str, int],
    cancelled: Collection[str],
    uploads: Sequence[str],
    references: Mapping[int, Reference],
) -> Verdict:
    """Hold what is left against what was asked: jobs by idempotency key with their recipe, and datasets.

    Each must have succeeded, save that those of the keys `cancelled` may also be cancelled.
    """
    verdict = Verdict()
    with db.read() as session:
        jobs = session.scalars(select(Job)).all()
        rows = {row.id: row for kind in (Dataset, Teacher) for row in session.scalars(select(kind))}
    by_key = Counter(job.idempotency_key for job in jobs if job.kind == "distill")
    verdict.lost += [f"job of key {key} is not there" for key in asked if not by_key[key]]
    verdict.doubled += [f"{n} jobs of key {key}" for key, n in by_key.items() if n > 1 or key not in asked]
    verdict.lost += [
        f"{id_} is {rows[id_].state} ({rows[id_].state_detail})"
        for id_ in uploads
        if rows[id_].state != "ready"
    ]
    for job in jobs:
        _check_history(db, job, verdict)
        if job.state == "cancelled" and job.idempotency_key in cancelled:
            _check_no_result(db, job, verdict)
        elif job.state != "succeeded":
            verdict.lost.append(f"{job.kind} {job.id} ended as {job.state}: {job.state_reason}")
        elif job.kind == "distill" and job.idempotency_key in asked:
            _check_result(db, job, references[asked[job.idempotency_key]], verdict)
    _check_files(db, blobs, list(rows.values()), verdict)
    return verdict


def _check_history(db: Database, job: Job, verdict: Verdict) -> None:
    with db.read() as session:
        events = session.scalars(select(Event).where(Event.job_id == job.id).order_by(Event.seq)).all()
    verdict.illegal += [f"{job.id}: {wrong}" for wrong in _illegal_moves(job, events)]
    ends = sum(STATES.get(event.type) in ENDED for event in events)
    if ends > 1:
        verdict.doubled.append(f"{job.id} ended {ends} times")


def _illegal_moves(job: Job, events: Sequence[Event]) -> Iterator[str]:
    if [event.seq for event in events] != list(range(1, job.event_seq + 1)):
        yield f"its events are not numbered 1 to {job.event_seq}"
    state = None
    for event in events:
        to = STATES.get(event.type)
        if to is None:
            if event.type.startswith(("run.", "phase.", "checkpoint.")) and state != "running":
                yield f"{event.type} (event {event.seq}) was told while it was {state}"
        elif state is None:
            if to != "queued":
                yield f"it began as {to}"
            state = to
        else:
            if to not in NEXT[state]:
                yield f"it went from {state} to {to} (event {event.seq})"
            state = to
    if state != job.state:
        yield f"it is {job.state}, its events say {state}"
    starts = sum(event.type == "job.running" for event in events)
    if not starts == job.attempts == job.lease_epoch:
        yield f"it was started {starts} times, counts {job.attempts} attempts and {job.lease_epoch} leases"


def _check_no_result(db: Database, job: Job, verdict: Verdict) -> None:
    with db.read() as session:
        made = session.scalars(
            select(Artifact.name).where(Artifact.job_id == job.id, Artifact.kind.in_(RESULTS))
        )
        verdict.doubled += [f"{job.id} was cancelled, and yet has {name}" for name in made]


def _check_result(db: Database, job: Job, reference: Reference, verdict: Verdict) -> None:
    with db.read() as session:
        files = session.scalars(select(Artifact).where(Artifact.job_id == job.id)).all()
    kinds = Counter(file.kind for file in files)
    if not kinds["student"]:
        verdict.lost.append(f"{job.id} has no student")
    if kinds["student"] > 1:
        verdict.doubled.append(f"{job.id} has {kinds['student']} students")
    verdict.wrong_bytes += [
        f"{job.id} made another student: {file.sha256}"
        for file in files
        if file.kind == "student" and file.sha256 != reference.sha256
    ]
    verdict.doubled += [
        f"{job.id} has {file.kind} of attempt {file.lease_epoch} of {job.lease_epoch}"
        for file in files
        if file.kind in RESULTS and file.lease_epoch != job.lease_epoch
    ]
    figures = _figures(db, job.id)
    if figures != reference.figures:
        missing, more = len(reference.figures.keys() - figures), len(figures.keys() - reference.figures)
        verdict.gaps.append(f"{job.id}: {missing} figures missing, {more} too many, others differ")


def _figures(db: Database, job_id: str) -> Curves:
    with db.read() as session:
        rows = session.scalars(select(Metric).where(Metric.job_id == job_id))
        return {(row.phase, row.name, row.step): row.value for row in rows}


def _check_files(
    db: Database, blobs: BlobStore, uploads: Sequence[Dataset | Teacher], verdict: Verdict
) -> None:
    with db.read() as session:
        files = session.scalars(select(Artifact)).all()
    sums = {file.blob_key: file.sha256 for file in files}
    sums |= {row.blob_key: row.sha256 for row in uploads if row.state == "ready"}  # type: ignore[dict-item]
    for key, sha256 in sums.items():
        try:
            found = hashlib.sha256(b"".join(blobs.open_range(key))).hexdigest()
        except BlobError as error:
            verdict.lost.append(f"{key}: {error}")
        else:
            if found != sha256:
                verdict.wrong_bytes.append(f"{key} holds {found}, its row says {sha256}")
    there = set(blobs.list(""))
    verdict.orphan_blobs += sorted(there - referenced(db, there))
