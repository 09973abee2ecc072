"""`client.jobs`: submit, watch, cancel, and fetch what came out."""

import os
import uuid
from base64 import b64encode
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from abdistill.downloads import fetch_file
from abdistill.errors import ConfigurationError
from abdistill.models import Artifact, Job, Page, Preset
from abdistill.news import JobNews
from abdistill.paging import every
from abdistill.predictions import Predictions
from abdistill.uploads import Progress


class Jobs(JobNews):
    """`/v1/jobs`."""

    def create(
        self,
        *,
        dataset: str,
        student: dict[str, Any],
        teacher: str | None = None,
        preset: str | None = None,
        recipe: dict[str, Any] | None = None,
        outputs: dict[str, Any] | None = None,
        name: str | None = None,
        labels: dict[str, str] | None = None,
        priority: int | None = None,
        max_runtime_seconds: int | None = None,
        devices: int | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Submit a distillation.

        `student` is an architecture, e.g. `{"arch": "wide_resnet", "depth": 10, "width": 1}`; its image and classes
        are the dataset's. `teacher` may be left out only if the recipe asks no teacher. `recipe` is laid over the
        `preset`, or over the defaults; `presets` shows those that there are.
        `outputs` is e.g. `{"formats": ["onnx"], "required": ["pt2"]}`. Jobs of a higher `priority`
        (-100 to 100, else 0) go first. A job that has run for `max_runtime_seconds`, over all attempts, fails.
        `devices` (else 1) share each batch. The same `idempotency_key` with the same request gives the same job, so
        that a caller who saw no answer may ask again; one is made up where none is given, for its own retries.

        Raises:
            Invalid, Conflict: the job could not work; `error.problem.errors` says why.
        """
        body = {
            "dataset": dataset,
            "teacher": teacher,
            "student": student,
            "preset": preset,
            "recipe": recipe,
            "outputs": outputs,
            "name": name,
            "labels": labels,
            "priority": priority,
            "max_runtime_seconds": max_runtime_seconds,
            "devices": devices,
        }
        return self._queue("/v1/jobs", body, idempotency_key)

    def clone(self, job_id: str, *, idempotency_key: str | None = None, **changes: Any) -> Job:
        """A new job like another, in whatever state that is, with changes to anything that `create` takes.

        Changes of `student`, `recipe` and `outputs` are laid over the other's field by field, so that
        `clone(job.id, student={"width": 2})` is wider and else the same.

        Raises:
            NotFound. Invalid, Conflict: the job could not work.
        """
        return self._queue(f"/v1/jobs/{job_id}/clone", changes, idempotency_key)

    def _queue(self, url_path: str, body: dict[str, Any], idempotency_key: str | None) -> Job:
        response = self._transport.request(
            "POST",
            url_path,
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

    def list(
        self,
        *,
        kind: str | None = None,
        state: str | Sequence[str] | None = None,
        method: str | Sequence[str] | None = None,
        sweep: str | None = None,
        teacher: str | None = None,
        dataset: str | None = None,
        labels: dict[str, str] | None = None,
        created_from: datetime | None = None,
        created_before: datetime | None = None,
        order: str | None = None,
        limit: int = 20,
        cursor: str | None = None,
    ) -> Page[Job]:
        """One page of jobs, of kind `distill` or `teacher.train`, newest first unless `order` says otherwise.

        Shown are those that are in any of the states, of any of the methods, and fit all else that is given; moments
        need a time zone. `order` is `newest`, `oldest`, `priority`, or `ended`, which shows those that have.
        """
        params = {
            "kind": kind,
            "state": state,
            "method": method,
            "sweep": sweep,
            "teacher": teacher,
            "dataset": dataset,
            "label": [f"{key}:{value}" for key, value in (labels or {}).items()] or None,
            "created_from": created_from and created_from.isoformat(),
            "created_before": created_before and created_before.isoformat(),
            "order": order,
            "limit": limit,
            "cursor": cursor,
        }
        given = {key: value for key, value in params.items() if value is not None}
        return Page[Job].model_validate_json(self._transport.request("GET", "/v1/jobs", params=given).content)

    def all(self, **shown: Any) -> Iterator[Job]:
        """All jobs that `list` would show, page by page."""
        return every(lambda cursor: self.list(**shown, limit=100, cursor=cursor))

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

    def predict(
        self, job_id: str, images: Sequence[bytes | str | os.PathLike[str]], *, top: int = 5
    ) -> Predictions:
        """Show up to 16 image files, or their bytes, to the student of a job that has succeeded: 16 MiB in base64.

        Raises:
            ConfigurationError: a file cannot be read.
            Conflict: the job has not succeeded. Invalid: an image cannot be decoded.
        """
        try:
            contents = [each if isinstance(each, bytes) else Path(each).read_bytes() for each in images]
        except OSError as error:
            raise ConfigurationError(f"cannot read {error.filename}: {error.strerror}") from error
        body = {"images": [b64encode(content).decode() for content in contents], "top": top}
        response = self._transport.request("POST", f"/v1/jobs/{job_id}/predictions", json=body)
        return Predictions.model_validate_json(response.content)

    def _act(self, job_id: str, action: str) -> Job:
        return Job.model_validate_json(self._transport.request("POST", f"/v1/jobs/{job_id}/{action}").content)

    def artifacts(self, job_id: str) -> tuple[Artifact, ...]:
        """A job's files: its newest checkpoints while it runs, what it made once it has succeeded, its logs."""
        response = self._transport.request("GET", f"/v1/jobs/{job_id}/artifacts")
        return Page[Artifact].model_validate_json(response.content).data

    def file_of(self, job_id: str, student_format: str) -> str:
        """The artifact that is a job's student in one of the formats that it was asked for (`onnx`, `pt2`, ...).

        Raises ConfigurationError where there is none, and says which there are, or why it could not be made.
        """
        job = self.get(job_id)
        exports = {export.format: export for export in job.report.exports} if job.report else {}
        export = exports.get(student_format)
        if export is not None and export.file is not None:
            return export.file
        has = ", ".join(name for name, one in exports.items() if one.file) or f"none: it is {job.state}"
        why = f": {export.error}" if export is not None else ""
        raise ConfigurationError(f"job {job_id} has no student as {student_format!r}{why} (it has {has})")

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
