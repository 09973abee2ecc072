"""What jobs' children write to their logs: kept in chunks of whole lines, the last of it, with the job."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from sqlalchemy import delete, insert, select, update

from store.database import Database
from store.job_models import LogChunk
from store.jobs import find_job
from store.leases import Lease
from store.models import Job, JobKind

KEPT_BYTES = 4 * 2**20
"""Of each job's log; of a longer one the beginning is forgotten."""
KEPT_KINDS: frozenset[JobKind] = frozenset({"distill", "train_teacher"})
"""Jobs that are shown; nobody could ask for the log of another."""


@dataclass(frozen=True)
class LogPart:
    """Some whole lines. `position`: bytes (UTF-8) of the job's log before them, over all attempts."""

    seq: int
    position: int
    attempt: int
    time: float
    text: str


def append(db: Database, lease: Lease, texts: Sequence[str]) -> None:
    """Store texts of whole lines, a chunk each, and forget what is too old; all or nothing.

    Raises:
        LeaseLost: another attempt owns the job; nothing was stored.
    """
    if not texts:
        return
    sizes = [len(text.encode()) for text in texts]
    with db.write() as session:
        row = session.execute(
            update(Job)
            .where(lease.fence.holds())
            .values(log_seq=Job.log_seq + len(texts), log_bytes=Job.log_bytes + sum(sizes))
            .returning(Job.log_seq, Job.log_bytes)
        ).one_or_none()
        if row is None:
            raise lease.fence.lost()
        seq, position = row.log_seq - len(texts), row.log_bytes - sum(sizes)
        chunks = []
        for text, size in zip(texts, sizes, strict=True):
            seq += 1
            attempt = lease.job.attempts
            chunks.append(
                {"job_id": lease.job.id, "seq": seq, "position": position, "attempt": attempt, "text": text}
            )
            position += size
        session.execute(insert(LogChunk), chunks)
        too_old = (LogChunk.job_id == lease.job.id, LogChunk.position < row.log_bytes - KEPT_BYTES)
        session.execute(delete(LogChunk).where(*too_old))


def read(db: Database, project_id: str, job_id: str, after_seq: int = 0, limit: int = 100) -> list[LogPart]:
    """Return the parts that follow `after_seq`, in order; the last one's `seq` is where to go on.

    Raises:
        NotFound
    """
    rows = select(LogChunk).where(LogChunk.job_id == job_id, LogChunk.seq > after_seq).order_by(LogChunk.seq)
    with db.read() as session:
        find_job(session, project_id, job_id)
        return [_part(chunk) for chunk in session.scalars(rows.limit(limit))]


def tail(db: Database, project_id: str, job_id: str, num_lines: int) -> list[LogPart]:
    """Return the parts that hold the last lines, in order; of the first of them only what belongs to these.

    Raises:
        NotFound
    """
    rows = select(LogChunk).where(LogChunk.job_id == job_id).order_by(LogChunk.seq.desc())
    found: list[LogPart] = []
    with db.read() as session:
        find_job(session, project_id, job_id)
        with closing(session.scalars(rows.execution_options(yield_per=20))) as chunks:
            for chunk in chunks:
                part = _part(chunk)
                lines = part.text.splitlines(keepends=True)
                cut = "".join(lines[: max(0, len(lines) - num_lines)])
                text, position = part.text[len(cut) :], part.position + len(cut.encode())
                found.append(replace(part, text=text, position=position))
                num_lines -= len(lines)
                if num_lines <= 0:
                    break
    return found[::-1]


def _part(chunk: LogChunk) -> LogPart:
    return LogPart(chunk.seq, chunk.position, chunk.attempt, chunk.time, chunk.text)
