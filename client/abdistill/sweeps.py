"""`/v1/sweeps`: one job with fields that vary."""

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from abdistill.comparisons import Sweep
from abdistill.errors import Timeout
from abdistill.models import Page
from abdistill.paging import every
from abdistill.transport import Transport

_PATH = "/v1/sweeps"


class Sweeps:
    """`client.sweeps`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        base: dict[str, Any],
        *,
        grid: Mapping[str, Sequence[Any]] | None = None,
        points: Sequence[dict[str, Any]] | None = None,
        name: str | None = None,
        idempotency_key: str | None = None,
    ) -> Sweep:
        """Queue a job for every combination of a grid, or for each of the points; all are checked before any is queued.

            client.sweeps.create(
                {"teacher": teacher.id, "dataset": dataset.id, "student": {"arch": "wide_resnet", "depth": 10}},
                grid={"student.width": [1, 2], "recipe.seed": [0, 1, 2]},
            )

        `base` is what `jobs.create` takes, without what varies. `idempotency_key` is as in `jobs.create`.

        Raises:
            Invalid, Conflict: some of the jobs could not work; nothing was queued.
        """
        body = {"base": base, "grid": grid, "points": points, "name": name}
        response = self._transport.request(
            "POST",
            _PATH,
            json={key: value for key, value in body.items() if value is not None},
            headers={"Idempotency-Key": idempotency_key or str(uuid.uuid4())},
        )
        return Sweep.model_validate_json(response.content)

    def get(self, sweep_id: str) -> Sweep:
        """One by its id, with its jobs side by side. Raises NotFound."""
        return Sweep.model_validate_json(self._transport.request("GET", f"{_PATH}/{sweep_id}").content)

    def list(self, *, limit: int = 20, cursor: str | None = None) -> Page[Sweep]:
        """One page, newest first."""
        params = {"limit": limit} | ({"cursor": cursor} if cursor else {})
        return Page[Sweep].model_validate_json(self._transport.request("GET", _PATH, params=params).content)

    def __iter__(self) -> Iterator[Sweep]:
        """All, newest first, page by page."""
        return every(lambda cursor: self.list(limit=100, cursor=cursor))

    def wait(
        self, sweep_id: str, *, timeout_seconds: float | None = None, poll_seconds: float = 2.0
    ) -> Sweep:
        """Return the sweep when all its jobs have ended, however they did. Raises Timeout; its jobs go on."""
        deadline = time.monotonic() + timeout_seconds if timeout_seconds is not None else None
        while (sweep := self.get(sweep_id)).state == "active":
            if deadline is not None and time.monotonic() >= deadline:
                raise Timeout(f"sweep {sweep_id} has not ended after {timeout_seconds:g} s; its jobs go on")
            time.sleep(poll_seconds)
        return sweep

    def cancel(self, sweep_id: str) -> Sweep:
        """Cancel all its jobs. Raises Conflict where all have ended."""
        return Sweep.model_validate_json(
            self._transport.request("POST", f"{_PATH}/{sweep_id}/cancel").content
        )

    def delete(self, sweep_id: str) -> None:
        """Delete it with its jobs and all that they left. Raises Conflict where one has not ended."""
        self._transport.request("DELETE", f"{_PATH}/{sweep_id}")
