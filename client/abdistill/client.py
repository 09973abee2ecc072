"""The client: one address, one key, and the resources behind them."""

import os
from collections.abc import Sequence
from types import TracebackType

from abdistill.audit import Audit
from abdistill.comparisons import Comparison
from abdistill.hooks import Webhooks
from abdistill.jobs import Jobs
from abdistill.keys import Keys
from abdistill.models import Usage
from abdistill.sweeps import Sweeps
from abdistill.transport import Transport
from abdistill.uploaded import Datasets, Teachers

DEFAULT_URL = "http://127.0.0.1:8420"


class Client:
    """A connection to an abdistill service.

        with Client() as client:
            teacher = client.teachers.add("teacher.pt", model={...})
            client.teachers.wait(teacher.id)

    Arguments left out come from the environment: `ABDISTILL_URL` (else http://127.0.0.1:8420), `ABDISTILL_API_KEY`.
    Connections are pooled; one client may be used by several threads.

    Args:
        timeout_seconds: longest silence of the service within one request.
        max_retries: how often a request is sent again, with growing pauses, where that is safe.

    Raises:
        ConfigurationError: the address is none.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_seconds: float = 60.0,
        max_retries: int = 4,
    ) -> None:
        self._transport = Transport(
            base_url or os.environ.get("ABDISTILL_URL") or DEFAULT_URL,
            api_key or os.environ.get("ABDISTILL_API_KEY"),
            timeout_seconds=timeout_seconds,
            max_retries=max_retries,
        )
        self.teachers = Teachers(self._transport)
        self.datasets = Datasets(self._transport)
        self.jobs = Jobs(self._transport)
        self.sweeps = Sweeps(self._transport)
        self.webhooks = Webhooks(self._transport)
        self.audit = Audit(self._transport)
        self.keys = Keys(self._transport)

    def usage(self) -> Usage:
        """What the key's project has, of what it may have."""
        return Usage.model_validate_json(self._transport.request("GET", "/v1/usage").content)

    @property
    def base_url(self) -> str:
        """Where the service is."""
        return self._transport.base_url

    def compare(
        self,
        jobs: Sequence[str] = (),
        *,
        sweep: str | None = None,
        split: str | None = None,
        metrics: Sequence[str] = (),
        points: int | None = None,
    ) -> Comparison:
        """Put students side by side: those of some jobs, or of a sweep.

        Args:
            jobs: their ids, in the order in which they are shown.
            sweep: all jobs of it, instead.
            split: held-out split that accuracies are of; else that on which training was followed.
            metrics: figures whose curves are shown, else `eval/top1` and `loss`.
            points: most epochs of a curve.

        Raises:
            Invalid: a job is not there, or has no such split or figure.
        """
        params = {
            "jobs": ",".join(jobs) or None,
            "sweep": sweep,
            "split": split,
            "metric": list(metrics) or None,
            "points": points,
        }
        given = {key: value for key, value in params.items() if value is not None}
        return Comparison.model_validate_json(
            self._transport.request("GET", "/v1/compare", params=given).content
        )

    def close(self) -> None:
        """Close the pooled connections; the client cannot be used any more."""
        self._transport.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
