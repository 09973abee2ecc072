"""How fast jobs go here, and what is before a new one: measured, never guessed."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import ColumnElement, Double, Row, cast, func, select
from sqlalchemy.orm import Session

from store.database import Database
from store.models import Job
from store.workers import Crew, crew

NUM_JOBS = 8
MOST_AHEAD = 5000
_MAY_STOP_EARLY = Job.run["recipe"]["finetune"]["patience"].as_integer().is_not(None)


@dataclass(frozen=True)
class Speed:
    """Multiply-accumulates a second of training: the median over `num_jobs` jobs of a source.

    `source`: jobs of the project that succeeded, or else of all projects, or else jobs that run now. `job_ids` are
    those of the project.
    """

    macs_per_second: float
    source: Literal["project", "service", "running"]
    num_jobs: int
    job_ids: Sequence[str]


@dataclass(frozen=True)
class Load:
    """What there is to do before a new job, and who does it.

    `running_seconds` is what each running job still takes, None where it has not said yet. `macs` is the training of
    each job that waits, in the order in which they are taken; None for one that is no training, which takes seconds.
    At most MOST_AHEAD are given, `jobs_ahead` counts them all.
    """

    crew: Crew
    running_seconds: Sequence[float | None]
    macs: Sequence[float | None]
    jobs_ahead: int


def measured_speed(db: Database, project_id: str) -> Speed | None:
    """Return how fast jobs went, from the nearest source that has any; None where none has.

    Jobs that may stop early are left out: how much of their work they did is not known.
    """
    own = Job.project_id == project_id
    seconds = Job.report["training_seconds"].as_float()
    with db.read() as session:
        if rows := _newest(session, Job.work_macs / seconds, Job.state == "succeeded", seconds > 0, own):
            return Speed(_median(rows), "project", len(rows), [row.id for row in rows])
        if rows := _newest(session, Job.work_macs / seconds, Job.state == "succeeded", seconds > 0):
            return Speed(_median(rows), "service", len(rows), [])
        done = Job.work_macs * Job.progress / Job.run_seconds
        running = Job.state == "running", Job.progress > 0, Job.run_seconds > 0
        if rows := _newest(session, done, *running):
            return Speed(_median(rows), "running", len(rows), [])
    return None


def load_before(db: Database, priority: int, silence_seconds: float) -> Load:
    """Return what is done before a new job of this priority. `silence_seconds`: a worker silent for so long is lost."""
    sooner = Job.state == "queued", Job.priority >= priority
    taken = select(Job.work_macs).where(*sooner).order_by(Job.priority.desc(), Job.created_at, Job.id)
    with db.read() as session:
        return Load(
            crew=crew(session, silence_seconds),
            running_seconds=session.scalars(select(Job.eta_seconds).where(Job.state == "running")).all(),
            macs=session.scalars(taken.limit(MOST_AHEAD)).all(),
            jobs_ahead=session.scalar(select(func.count()).select_from(Job).where(*sooner)) or 0,
        )


def _newest(
    session: Session, rate: ColumnElement[float | None], *conditions: ColumnElement[bool]
) -> Sequence[Row[tuple[str, float]]]:
    trained = Job.work_macs.is_not(None), Job.kind == "distill"
    return session.execute(
        select(Job.id, cast(rate, Double).label("rate"))
        .where(*trained, *conditions, ~_MAY_STOP_EARLY)
        .order_by(Job.created_at.desc(), Job.id.desc())
        .limit(NUM_JOBS)
    ).all()


def _median(rows: Sequence[Row[tuple[str, float]]]) -> float:
    return float(statistics.median(row.rate for row in rows))
