"""What can go wrong, as a small tree under `AbdistillError`.

Each message says what was wrong, where, and what to do. Catch the leaf that you can act on, or the root.
"""

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from abdistill.models import Dataset, Job, Teacher


class ProblemItem(BaseModel):
    """One thing that is wrong with a request, an upload or a job."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    message: str
    code: str | None = None
    where: str | None = None
    value: Any = None
    allowed: tuple[str, ...] | None = None
    hint: str | None = None

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.message}" if self.where else self.message]
        if self.allowed:
            lines.append(f"  allowed: {', '.join(self.allowed)}")
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)


class ProblemDetails(BaseModel):
    """The service's answer to a request that it refuses (RFC 9457, `application/problem+json`)."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    type: str = "about:blank"
    title: str = ""
    status: int | None = None
    detail: str | None = None
    instance: str | None = None
    request_id: str | None = None
    errors: tuple[ProblemItem, ...] = ()

    def __str__(self) -> str:
        head = ": ".join(part for part in (self.title, self.detail) if part) or self.type
        return "\n".join([head, *(f"- {item}" for item in self.errors)])


class AbdistillError(Exception):
    """Anything that this package raises by intent."""


class ConfigurationError(AbdistillError):
    """The client itself was set up wrongly: an address that is none, a file that is not there."""


class ConnectionFailed(AbdistillError):
    """The service could not be reached, or the connection was lost and stayed lost over all retries."""


class Timeout(AbdistillError):
    """What was waited for did not happen in the time that the caller gave."""


class IntegrityError(AbdistillError):
    """What arrived is not what was sent: size or sha256 differ."""


class InvalidSignature(AbdistillError):
    """A webhook's request is not signed by the secret that it should be, or not at this time."""


class ApiError(AbdistillError):
    """The service answered, and said no. `status` is HTTP's, `problem` says why, `request_id` finds it in the logs."""

    def __init__(
        self, status: int, problem: ProblemDetails, request_id: str | None, retry_after_seconds: float = 0.0
    ) -> None:
        self.status = status
        self.problem = problem
        self.retry_after_seconds = retry_after_seconds
        self.request_id = request_id or problem.request_id
        place = f" (HTTP {status}, request {self.request_id})" if self.request_id else f" (HTTP {status})"
        head, _, rest = str(problem).partition("\n")
        super().__init__(head + place + (f"\n{rest}" if rest else ""))


class Unauthorized(ApiError):
    """401 or 403: no key, a wrong or revoked one, or one without the scope that this needs."""


class NotFound(ApiError):
    """404: no such thing, or none that this key may see."""


class Conflict(ApiError):
    """409: the thing is in a state that does not allow this."""


class Invalid(ApiError):
    """400, 413, 415, 422: what was sent is wrong; `problem.errors` names the fields."""


class RateLimited(ApiError):
    """429: too many requests; raised when the retries are used up."""


class QuotaExceeded(ApiError):
    """429 or 507 that names a quota of the project: asking again helps only when something has ended or is deleted."""


class ServerError(ApiError):
    """5xx: the service has a fault of its own; raised when the retries are used up."""


class Rejected(AbdistillError):
    """An upload arrived whole, was read, and found unusable; `resource.problems` says why."""

    def __init__(self, resource: "Teacher | Dataset") -> None:
        self.resource = resource
        reasons = [f"- {item}" for item in resource.problems] or [f"- {resource.state_detail or 'no reason'}"]
        super().__init__(
            "\n".join([f"{resource.object} {resource.id} ({resource.name}) is invalid:", *reasons])
        )


class JobFailed(AbdistillError):
    """The job ended without a student; `job.problems` says why."""

    def __init__(self, job: "Job") -> None:
        self.job = job
        reasons = [f"- {item}" for item in job.problems] or [f"- {job.state_reason or 'no reason given'}"]
        super().__init__("\n".join([f"job {job.id} {job.state}:", *reasons]))


class JobCancelled(JobFailed):
    """The job was cancelled before it had a student."""


_BY_STATUS: dict[int, type[ApiError]] = {
    400: Invalid,
    401: Unauthorized,
    403: Unauthorized,
    404: NotFound,
    409: Conflict,
    413: Invalid,
    415: Invalid,
    422: Invalid,
    429: RateLimited,
}


def api_error(
    status: int, problem: ProblemDetails, request_id: str | None, retry_after_seconds: float
) -> ApiError:
    """The error class for a status: the named one, else `ServerError` for 5xx or plain `ApiError`; a quota has one."""
    if any((item.code or "").startswith("quota.") for item in problem.errors):
        return QuotaExceeded(status, problem, request_id, retry_after_seconds)
    kind = _BY_STATUS.get(status, ServerError if status >= 500 else ApiError)
    return kind(status, problem, request_id, retry_after_seconds)
