"""What teachers and datasets share: a name first, then a file, then waiting for what the service finds in it."""

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from abdistill import parts
from abdistill.errors import Rejected, Timeout
from abdistill.models import Dataset, Evaluation, Page, Teacher
from abdistill.paging import every
from abdistill.transport import Transport
from abdistill.uploads import LocalFile, Progress, is_address, put_file

Kind = TypeVar("Kind", Teacher, Dataset)


class UploadedResources(Generic[Kind]):
    """`/v1/teachers` or `/v1/datasets`."""

    def __init__(self, transport: Transport, kind: type[Kind], page: type[Page[Kind]], url_path: str) -> None:
        self._transport = transport
        self._kind: type[Kind] = kind
        self._page: type[Page[Kind]] = page
        self._url_path = url_path

    def get(self, resource_id: str) -> Kind:
        """One by its id. Raises NotFound."""
        return self._parse(self._transport.request("GET", f"{self._url_path}/{resource_id}").content)

    def list(self, *, limit: int = 20, cursor: str | None = None) -> Page[Kind]:
        """One page, newest first."""
        params = {"limit": limit} | ({"cursor": cursor} if cursor else {})
        content = self._transport.request("GET", self._url_path, params=params).content
        return self._page.model_validate_json(content)

    def __iter__(self) -> Iterator[Kind]:
        """All, newest first, page by page."""
        return every(lambda cursor: self.list(limit=100, cursor=cursor))

    def delete(self, resource_id: str) -> None:
        """Delete it and its files. Raises Conflict while a job needs it."""
        self._transport.request("DELETE", f"{self._url_path}/{resource_id}")

    def upload(
        self, resource_id: str, path: str | os.PathLike[str], *, progress: Progress | None = None
    ) -> Kind:
        """Send the file of one that was created; the service then reads and checks it.

        An address, `s3://bucket/key` or `file:///path`, is not sent but fetched by the service, where its operator
        allows that.

        Safe to repeat: the very same file is accepted twice. A large one is sent in parts; whoever sends it again, for
        this or for another, goes on where it was cut off.

        Raises:
            ConfigurationError: the file cannot be read. Conflict: another file has been uploaded before.
        """
        url_path = f"{self._url_path}/{resource_id}/content"
        if is_address(path):
            self._transport.request("POST", url_path, json={"source": path}, repeatable=True)
            return self.get(resource_id)
        file = LocalFile.read(Path(path))
        if file.size_bytes < parts.PARTS_FROM_BYTES:
            put_file(self._transport, url_path, file, progress)
        else:
            upload = parts.send_in_parts(self._transport, file, progress)
            self._transport.request("POST", url_path, json={"upload": upload}, repeatable=True)
        return self.get(resource_id)

    def wait(
        self, resource_id: str, *, timeout_seconds: float | None = None, poll_seconds: float = 0.5
    ) -> Kind:
        """Return when the service has checked the upload and found it good.

        Raises:
            Rejected: it found it bad; `error.resource.problems` says why.
            Timeout: it is still at it; it goes on.
        """
        deadline = time.monotonic() + timeout_seconds if timeout_seconds is not None else None
        while True:
            resource = self.get(resource_id)
            if resource.state == "ready":
                return resource
            if resource.state == "invalid":
                raise Rejected(resource)
            if deadline is not None and time.monotonic() >= deadline:
                raise Timeout(
                    f"{resource.object} {resource.id} is still {resource.state} after {timeout_seconds:g} s; "
                    "the service goes on: wait again, or look at its worker if this does not change"
                )
            time.sleep(poll_seconds)

    def _create(self, body: dict[str, Any]) -> Kind:
        return self._parse(self._transport.request("POST", self._url_path, json=body).content)

    def _parse(self, content: bytes) -> Kind:
        return self._kind.model_validate_json(content)


class Teachers(UploadedResources[Teacher]):
    """`client.teachers`."""

    def __init__(self, transport: Transport) -> None:
        super().__init__(transport, Teacher, Page[Teacher], "/v1/teachers")

    def create(
        self, name: str, model: dict[str, Any], *, normalization: dict[str, Any] | None = None
    ) -> Teacher:
        """Announce a teacher: what network its checkpoint is of.

        `model` is e.g. `{"architecture": {"arch": "wide_resnet", "depth": 16, "width": 2},
        "image": {"channels": 1, "height": 8, "width": 8}, "num_classes": 10}`. `normalization` (`mean` and `std`, one
        entry a channel) is what its images were scaled with in training; without it, the dataset's own is used.
        """
        return self._create({"name": name, "model": model, "normalization": normalization})

    def train(
        self,
        name: str,
        *,
        dataset: str,
        architecture: dict[str, Any],
        recipe: dict[str, Any] | None = None,
        devices: int = 1,
    ) -> Teacher:
        """Have the service train a teacher on a dataset's labels; `wait` returns when it is ready.

        Its progress is that of the job `training_job_id`. `recipe` is laid over one that learns from labels alone.
        """
        body = {"name": name, "dataset": dataset, "architecture": architecture, "devices": devices}
        if recipe is not None:
            body["recipe"] = recipe
        return self._parse(self._transport.request("POST", f"{self._url_path}/train", json=body).content)

    def combine(self, name: str, members: Sequence[str]) -> Teacher:
        """Make an ensemble of ready teachers one teacher, which answers with the mean of their probabilities."""
        body = {"name": name, "members": list(members)}
        return self._parse(self._transport.request("POST", f"{self._url_path}/combine", json=body).content)

    def evaluate(
        self,
        teacher_id: str,
        dataset: str,
        *,
        wait: bool = True,
        timeout_seconds: float | None = None,
        poll_seconds: float = 0.5,
    ) -> Evaluation:
        """Have a teacher measured on a dataset's held-out splits, and wait for the figures.

        `warnings` say where it is no better than chance. An evaluation that failed has `problems`.

        Raises:
            Timeout: it has not ended; it goes on, and `evaluations` lists it.
        """
        url_path = f"{self._url_path}/{teacher_id}/evaluations"
        content = self._transport.request("POST", url_path, json={"dataset": dataset}).content
        evaluation = Evaluation.model_validate_json(content)
        deadline = time.monotonic() + timeout_seconds if timeout_seconds is not None else None
        while wait and not evaluation.ended:
            if deadline is not None and time.monotonic() >= deadline:
                raise Timeout(
                    f"evaluation {evaluation.id} is still {evaluation.state} after {timeout_seconds:g} s"
                )
            time.sleep(poll_seconds)
            content = self._transport.request("GET", f"{url_path}/{evaluation.id}").content
            evaluation = Evaluation.model_validate_json(content)
        return evaluation

    def evaluations(self, teacher_id: str, *, limit: int = 20, cursor: str | None = None) -> Page[Evaluation]:
        """One page of what a teacher was measured on, newest first."""
        params = {"limit": limit} | ({"cursor": cursor} if cursor else {})
        url_path = f"{self._url_path}/{teacher_id}/evaluations"
        content = self._transport.request("GET", url_path, params=params).content
        return Page[Evaluation].model_validate_json(content)

    def add(
        self,
        path: str | os.PathLike[str],
        *,
        model: dict[str, Any],
        name: str | None = None,
        normalization: dict[str, Any] | None = None,
        progress: Progress | None = None,
        wait: bool = True,
    ) -> Teacher:
        """Create a teacher, send its checkpoint (.safetensors, or a .pt/.pth state dict), wait until it is checked.

        `path` may be an address that the service fetches it from, as for `upload`.

        Raises Rejected where the service finds it unusable.
        """
        teacher = self.create(name or Path(path).name, model, normalization=normalization)
        uploaded = self.upload(teacher.id, path, progress=progress)
        return self.wait(teacher.id) if wait else uploaded


class Datasets(UploadedResources[Dataset]):
    """`client.datasets`."""

    def __init__(self, transport: Transport) -> None:
        super().__init__(transport, Dataset, Page[Dataset], "/v1/datasets")

    def create(
        self,
        name: str,
        filename: str,
        *,
        image_size: int | None = None,
        holdout_fraction: float | None = None,
    ) -> Dataset:
        """Announce a dataset; `image_size` and `holdout_fraction` say how the service shall read it."""
        options = {"image_size": image_size, "holdout_fraction": holdout_fraction}
        given = {key: value for key, value in options.items() if value is not None}
        return self._create({"name": name, "filename": filename} | given)

    def add(
        self,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        image_size: int | None = None,
        holdout_fraction: float | None = None,
        progress: Progress | None = None,
        wait: bool = True,
    ) -> Dataset:
        """Create a dataset, send its file, wait for its check.

        The file: an archive of class folders, of idx files, of parquet files, or as WebDataset has it; .npz; .parquet.
        `path` may be an address that the service fetches it from, as for `upload`.

        Raises Rejected where the service finds it unusable.
        """
        filename = Path(path).name
        dataset = self.create(
            name or filename, filename, image_size=image_size, holdout_fraction=holdout_fraction
        )
        uploaded = self.upload(dataset.id, path, progress=progress)
        return self.wait(dataset.id) if wait else uploaded

    def samples(self, dataset_id: str) -> bytes:
        """A PNG of training images, a row a class; `report.samples` says which. Raises Conflict until it is ready."""
        return self._transport.request("GET", f"{self._url_path}/{dataset_id}/samples").content
