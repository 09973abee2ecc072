"""One HTTP exchange with the service: address, key, retries, and errors in this package's own words."""

import logging
import platform
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import Any

import httpx
from pydantic import ValidationError

from abdistill.errors import (
    ApiError,
    ConfigurationError,
    ConnectionFailed,
    ProblemDetails,
    QuotaExceeded,
    api_error,
)

log = logging.getLogger("abdistill")

RETRIED_STATUS = frozenset({429, 502, 503, 504})
IDEMPOTENT_METHODS = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})
FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 8.0
LONGEST_RETRY_AFTER_SECONDS = 60.0


class Transport:
    """Sends requests, and sends them again where that is safe and useful.

    A request is repeated after a lost connection or a 502, 503, 504 if it is idempotent (by its method, or by an
    Idempotency-Key); after a refused connection or a 429 always, since then it was not carried out;
    after one that names a quota never.
    """

    def __init__(
        self, base_url: str, api_key: str | None, *, timeout_seconds: float, max_retries: int
    ) -> None:
        self.base_url = _checked_url(base_url)
        self.max_retries = max_retries
        headers = {
            "User-Agent": f"abdistill/{version('abdistill')} python/{platform.python_version()}",
            "Accept": "application/json, application/problem+json",
        }
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        self._http = httpx.Client(
            base_url=self.base_url, headers=headers, timeout=httpx.Timeout(timeout_seconds, connect=5.0)
        )

    def close(self) -> None:
        """Close the pooled connections."""
        self._http.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, Any] | None = None,
        json: Any = None,
        content: Callable[[], Iterator[bytes]] | None = None,
        headers: dict[str, str] | None = None,
        repeatable: bool = False,
        max_retries: int | None = None,
        timeout_seconds: float | None = None,
    ) -> httpx.Response:
        """The response to a request, read whole; `content` is called anew for each attempt.

        `repeatable` says of a POST that the service takes it twice as once. `max_retries` and `timeout_seconds` are
        the transport's own where they are not given.

        Raises:
            ApiError: the service refused (a subclass by status).
            ConnectionFailed: it could not be reached, however often it was tried.
        """
        idempotent = repeatable or method in IDEMPOTENT_METHODS or "Idempotency-Key" in (headers or {})
        most = self.max_retries if max_retries is None else max_retries
        for attempt in range(most + 1):
            last = attempt == most
            try:
                response = self._http.request(
                    method,
                    path,
                    params=params,
                    json=json,
                    content=content() if content else None,
                    headers=headers,
                    timeout=httpx.USE_CLIENT_DEFAULT if timeout_seconds is None else timeout_seconds,
                )
            except httpx.TransportError as lost:
                if last or not (idempotent or never_sent(lost)):
                    raise self.connection_failed(lost) from lost
                pause(attempt, f"{method} {path}: {lost!r}")
                continue
            if response.is_success:
                return response
            again = response.status_code == 429 or (idempotent and response.status_code in RETRIED_STATUS)
            error = refusal(response)
            if last or not again or isinstance(error, QuotaExceeded):
                raise error
            pause(attempt, f"{method} {path}: HTTP {error.status}", error.retry_after_seconds)
        raise AssertionError("the last attempt returns or raises")

    @contextmanager
    def stream(self, path: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
        """A GET whose body the caller reads piece by piece; tried once.

        A large file may be led to where the service keeps its files; httpx does not take our key there.

        Raises:
            ApiError: the service refused.
            httpx.TransportError: the connection failed; the caller knows what it has and decides.
        """
        with self._http.stream("GET", path, headers=headers, follow_redirects=True) as response:
            if not response.is_success:
                response.read()
                raise refusal(response)
            yield response

    def connection_failed(self, error: httpx.TransportError) -> ConnectionFailed:
        """The same failure, told so that its reader knows what to look at."""
        reason = str(error) or type(error).__name__
        if never_sent(error):
            return ConnectionFailed(
                f"No service answers at {self.base_url} ({reason}). Start one with `abdistill-server up`, "
                "or point ABDISTILL_URL at the one you mean."
            )
        return ConnectionFailed(
            f"The connection to {self.base_url} was lost and did not come back ({reason})."
        )


def _checked_url(base_url: str) -> str:
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise ConfigurationError(
            f"{base_url!r} is no address ({error}): give one like http://127.0.0.1:8420"
        ) from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigurationError(f"{base_url!r} is no http(s) address: give one like http://127.0.0.1:8420")
    return str(url).rstrip("/")


def never_sent(error: httpx.TransportError) -> bool:
    """Whether the service cannot have seen the request: the connection was not made."""
    return isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)


def pause(attempt: int, reason: str, at_least_seconds: float = 0.0) -> None:
    """Wait before the next attempt: twice as long each time, jittered so that many clients do not knock as one."""
    ceiling = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**attempt)
    seconds = max(at_least_seconds, random.uniform(ceiling / 2, ceiling))
    log.info("%s; trying again in %.1f s", reason, seconds)
    time.sleep(seconds)


def retry_after(response: httpx.Response) -> float:
    """Seconds that the service asks to wait (`Retry-After`, as seconds or as a date); 0 where it does not say."""
    value = response.headers.get("Retry-After", "")
    try:
        seconds = (
            float(value)
            if value.strip().isdigit()
            else parsedate_to_datetime(value).timestamp() - time.time()
        )
    except ValueError:
        return 0.0
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_SECONDS)


def refusal(response: httpx.Response) -> ApiError:
    """The error for a response that is not a success, with the service's own explanation where it gave one."""
    try:
        problem = ProblemDetails.model_validate_json(response.content)
    except ValidationError:
        text = response.text.strip()[:500]
        problem = ProblemDetails(title=response.reason_phrase or "Refused", detail=text or None)
    return api_error(
        response.status_code, problem, response.headers.get("X-Request-ID"), retry_after(response)
    )
