"""`client.jobs`: submit, watch, cancel, and fetch what came out."""

import os
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abdistill.downloads import fetch_file
from abdistill.errors import ConfigurationError, JobCancelled, JobFailed, Timeout
from abdistill.models import Artifact, Event, Job, Metric, Page, Preset
from abdistill.streams import read_stream
from abdistill.transport import Transport
from abdistill.uploads import Progress

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


class Jobs:
    """`/v1/jobs`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        *,
        dataset: str,
        student: dict[str, Any],
        teacher: str | None = None,
        preset: str | None = None,
        recipe: dict[str, Any] | None = None,
        name: str | None = None,
        labels: dict[str, str] | None = None,
        priority: int | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Submit a distillation.

        `student` is an architecture, e.g. `{"arch": "wide_resnet", "depth": 10, "width": 1}`; its image and classes
        are the dataset's. `teacher` may be left out only if the recipe asks no teacher. `recipe` is laid over the
        `preset`, or over the defaults; `presets` shows those that there are. Jobs of a higher `priority`
        (-100 to 100, else 0) go first. The same `idempotency_key` with the same request gives the same job, so that a
        caller who saw no answer may ask again; one is made up where none is given, for this method's own retries.

        Raises:
            Invalid, Conflict: the job could not work; `error.problem.errors` says why.
        """
        body = {
            "dataset": dataset,
            "teacher": teacher,
            "student": student,
            "preset": preset,
            "recipe": recipe,
            "name": name,
            "labels": labels,
            "priority": priority,
        }
        response = self._transport.request(
            "POST",
            "/v1/jobs",
            json={key: value for key, value in body.items() if value is not None},
            headers={"Idempotency-Key": idempotency_key or str(uuid.uuid4())},
        )
        return Job.model_validate_json(response.content)

    def estimate(self, **job: Any) -> dict[str, Any]:
        """What a job would be; takes what `create` takes, queues nothing.

        Raises:
            Invalid, Conflict: it could not work.
        """
        body = {key: value for key, value in job.items() if value is not None}
        answer: dict[str, Any] = self._transport.request("POST", "/v1/jobs:estimate", json=body).json()
        return answer

    def presets(self) -> tuple[Preset, ...]:
        """The recipes that a job can start from."""
        response = self._transport.request("GET", "/v1/recipes")
        return Page[Preset].model_validate_json(response.content).data

    def get(self, job_id: str) -> Job:
        """One by its id. Raises NotFound."""
        return Job.model_validate_json(self._transport.request("GET", f"/v1/jobs/{job_id}").content)

    def list(
        self,
        *,
        kind: str | None = None,
        state: str | Sequence[str] | None = None,
        teacher: str | None = None,
        dataset: str | None = None,
        labels: dict[str, str] | None = None,
        order: str | None = None,
        limit: int = 20,
        cursor: str | None = None,
    ) -> Page[Job]:
        """One page of jobs, newest first unless `order` is `oldest`; of kind `distill`, or `teacher.train`.

        Shown are those that are in any of the states, and fit all else that is given.
        """
        params = {
            "kind": kind,
            "state": state,
            "teacher": teacher,
            "dataset": dataset,
            "label": [f"{key}:{value}" for key, value in (labels or {}).items()] or None,
            "order": order,
            "limit": limit,
            "cursor": cursor,
        }
        given = {key: value for key, value in params.items() if value is not None}
        return Page[Job].model_validate_json(self._transport.request("GET", "/v1/jobs", params=given).content)

    def all(self, **shown: Any) -> Iterator[Job]:
        """All jobs that `list` would show, page by page."""
        page = self.list(**shown, limit=100)
        while True:
            yield from page.data
            if not page.next_cursor:
                return
            page = self.list(**shown, limit=100, cursor=page.next_cursor)

    def cancel(self, job_id: str) -> Job:
        """Ask for the end of a job: at once where it is queued, within seconds where it runs.

        Raises Conflict where it has ended already.
        """
        return self._act(job_id, "cancel")

    def pause(self, job_id: str) -> Job:
        """Ask for a pause: at once where it is queued; a running job saves where it is. Raises Conflict if it ended."""
        return self._act(job_id, "pause")

    def resume(self, job_id: str) -> Job:
        """Queue a paused job again. Raises Conflict where it is not paused."""
        return self._act(job_id, "resume")

    def retry(self, job_id: str) -> Job:
        """A new job like one that failed or was cancelled. Raises Conflict for any other."""
        return self._act(job_id, "retry")

    def update(
        self,
        job_id: str,
        *,
        name: str | None = None,
        labels: dict[str, str] | None = None,
        priority: int | None = None,
    ) -> Job:
        """Change a job's name, its labels (all of them), or its priority, which matters while it waits."""
        changes = {"name": name, "labels": labels, "priority": priority}
        body = {key: value for key, value in changes.items() if value is not None}
        return Job.model_validate_json(
            self._transport.request("PATCH", f"/v1/jobs/{job_id}", json=body).content
        )

    def delete(self, job_id: str) -> None:
        """Delete a job that has ended, with all that it left. Raises Conflict where it has not."""
        self._transport.request("DELETE", f"/v1/jobs/{job_id}")

    def _act(self, job_id: str, action: str) -> Job:
        return Job.model_validate_json(self._transport.request("POST", f"/v1/jobs/{job_id}/{action}").content)

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

    def events(self, job_id: str, *, after: int = 0, limit: int = 100) -> Page[Event]:
        """Events with a sequence number above `after`, oldest first."""
        params = {"after": after, "limit": limit}
        response = self._transport.request("GET", f"/v1/jobs/{job_id}/events", params=params)
        return Page[Event].model_validate_json(response.content)

    def metrics(
        self,
        job_id: str,
        *,
        name: str | None = None,
        phase: str | None = None,
        limit: int = 1000,
        cursor: str | None = None,
    ) -> Page[Metric]:
        """Figures by phase, name and step."""
        params = {"name": name, "phase": phase, "limit": limit, "cursor": cursor}
        given = {key: value for key, value in params.items() if value is not None}
        response = self._transport.request("GET", f"/v1/jobs/{job_id}/metrics", params=given)
        return Page[Metric].model_validate_json(response.content)

    def artifacts(self, job_id: str) -> tuple[Artifact, ...]:
        """The files that a job left behind; empty until it has succeeded."""
        response = self._transport.request("GET", f"/v1/jobs/{job_id}/artifacts")
        return Page[Artifact].model_validate_json(response.content).data

    def download(
        self,
        job_id: str,
        artifact: str = "student.safetensors",
        target: str | os.PathLike[str] = ".",
        *,
        progress: Progress | None = None,
    ) -> Path:
        """Fetch one artifact into a folder, or to a file of that name; its size and sha256 are checked.

        A download that was cut, even in an earlier process, goes on where it stopped.

        Raises:
            ConfigurationError: the job has no such artifact, or the target cannot be written.
            IntegrityError: what came is not what the job made.
        """
        found = {item.name: item for item in self.artifacts(job_id)}
        if artifact not in found:
            has = ", ".join(found) or f"none: it is {self.get(job_id).state}"
            raise ConfigurationError(f"job {job_id} has no artifact {artifact!r} (it has {has})")
        path = Path(target)
        return fetch_file(
            self._transport,
            f"/v1/jobs/{job_id}/artifacts/{artifact}",
            path / artifact if path.is_dir() else path,
            size_bytes=found[artifact].size_bytes,
            sha256=found[artifact].sha256,
            progress=progress,
        )

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
        newest: dict[tuple[str, str], Metric] = {}
        cursor: str | None = None
        while True:
            page = self.metrics(job_id, cursor=cursor)
            newest |= {(metric.phase, metric.name): metric for metric in page.data}
            cursor = page.next_cursor
            if cursor is None:
                return tuple(newest.values())

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
