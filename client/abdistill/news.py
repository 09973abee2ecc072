"""What a job tells: its state, events and figures, asked for or followed to its end."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from abdistill.errors import JobCancelled, JobFailed, Timeout
from abdistill.models import Event, Job, LogPart, Metric, Page
from abdistill.paging import every
from abdistill.streams import read_stream
from abdistill.transport import Transport

WATCHED_PAGE = 500


@dataclass(frozen=True)
class Update:
    """A job as it stands, what has happened to it since the update before, and the newest of each of its figures."""

    job: Job
    events: tuple[Event, ...]
    metrics: tuple[Metric, ...]

    def latest(self, phase: str) -> dict[str, float]:
        """The newest value of each figure of a phase, by name."""
        return {metric.name: metric.value for metric in self.metrics if metric.phase == phase}


class JobNews:
    """The part of `client.jobs` that listens."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, job_id: str) -> Job:
        """One by its id. Raises NotFound."""
        return Job.model_validate_json(self._transport.request("GET", f"/v1/jobs/{job_id}").content)

    def follow(self, job_id: str) -> Iterator[Job | Event | Metric]:
        """Yield all that happens to a job, from its beginning to its end and as it happens; the last is the job's end.

        A lost connection is made again, and nothing is missed or seen twice.
        """
        for message in read_stream(self._transport, f"/v1/jobs/{job_id}/stream"):
            match message.kind:
                case "event":
                    yield Event.model_validate(message.content)
                case "metrics":
                    yield from (Metric.model_validate(metric) for metric in message.content)
                case "job" | "end":
                    yield Job.model_validate(message.content)

    def events(
        self,
        job_id: str,
        *,
        after: int = 0,
        level: str | Sequence[str] = (),
        type: str | Sequence[str] = (),
        limit: int = 100,
    ) -> Page[Event]:
        """Events with a sequence number above `after`, oldest first; of any of the levels and types that are given."""
        params = {"after": after, "level": level, "type": type, "limit": limit}
        response = self._transport.request("GET", f"/v1/jobs/{job_id}/events", params=params)
        return Page[Event].model_validate_json(response.content)

    def metrics(
        self,
        job_id: str,
        *,
        name: str | Sequence[str] = (),
        phase: str | None = None,
        from_step: int | None = None,
        to_step: int | None = None,
        points: int | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[Metric]:
        """Figures by phase, name and step: of these names, and of the steps from one to the other, both included.

        With `points` each curve has no more than so many, ends and peaks among them, and all come at once.
        """
        params = {
            "name": name,
            "phase": phase,
            "from_step": from_step,
            "to_step": to_step,
            "points": points,
            "limit": limit,
            "cursor": cursor,
        }
        given = {key: value for key, value in params.items() if value is not None}
        response = self._transport.request("GET", f"/v1/jobs/{job_id}/metrics", params=given)
        return Page[Metric].model_validate_json(response.content)

    def logs(self, job_id: str, *, tail: int | None = None, follow: bool = False) -> Iterator[str]:
        """Yield the lines that a job's processes wrote, without their ends: all that is kept, or the last ones.

        With `follow` it goes on to the job's end, as they are written; a lost connection is made again, and no line is
        missed or seen twice.
        """
        seen = 0
        for part in self._log_parts(job_id, tail):
            seen = part.seq
            yield from part.text.splitlines()
        if not follow:
            return
        for message in read_stream(
            self._transport, f"/v1/jobs/{job_id}/stream?include=log", last_id=f"e0.m0.l{seen}"
        ):
            if message.kind == "log":
                yield from LogPart.model_validate(message.content).text.splitlines()

    def _log_parts(self, job_id: str, tail: int | None) -> Iterator[LogPart]:
        params = {} if tail is None else {"tail": tail}
        cursor: str | None = "0"
        while cursor is not None:
            response = self._transport.request(
                "GET", f"/v1/jobs/{job_id}/logs", params=params | {"after": int(cursor)}
            )
            page = Page[LogPart].model_validate_json(response.content)
            yield from page.data
            cursor = page.next_cursor

    def watch(
        self, job_id: str, *, timeout_seconds: float | None = None, poll_seconds: float = 1.0
    ) -> Iterator[Update]:
        """Yield the job with its new events and metrics until it has ended; the last update is the job's end.

        Raises Timeout; the job goes on.
        """
        deadline = time.monotonic() + timeout_seconds if timeout_seconds is not None else None
        seen = 0
        metrics: tuple[Metric, ...] = ()
        metrics_of: tuple[str | None, ...] = ()
        while True:
            job = self.get(job_id)
            events: tuple[Event, ...] = ()
            while page := self.events(job_id, after=seen, limit=WATCHED_PAGE).data:
                events += page
                seen = page[-1].seq
            # Most figures come once an epoch: asking more often would fetch a long job's history again and again.
            if metrics_of != (stage := (job.state, job.phase, str(job.epoch))):
                metrics, metrics_of = self._newest_metrics(job_id), stage
            yield Update(job, events, metrics)
            if job.ended:
                return
            if deadline is not None and time.monotonic() >= deadline:
                raise Timeout(f"job {job_id} is still {job.state} after {timeout_seconds:g} s; it goes on")
            time.sleep(poll_seconds)

    def _newest_metrics(self, job_id: str) -> tuple[Metric, ...]:
        metrics = every(lambda cursor: self.metrics(job_id, cursor=cursor))
        return tuple({(metric.phase, metric.name): metric for metric in metrics}.values())

    def wait(self, job_id: str, *, timeout_seconds: float | None = None, poll_seconds: float = 1.0) -> Job:
        """Return the job when it has succeeded.

        Raises:
            JobFailed, JobCancelled: it ended otherwise. Timeout: it has not ended; it goes on.
        """
        for update in self.watch(job_id, timeout_seconds=timeout_seconds, poll_seconds=poll_seconds):
            job = update.job
        if job.state == "cancelled":
            raise JobCancelled(job)
        if job.state != "succeeded":
            raise JobFailed(job)
        return job
