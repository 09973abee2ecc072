"""Every way to say no, as RFC 9457 problem documents: one table from errors to answers."""

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from abcore.specs.refusals import Problem, Refusal
from api.describer import DescriberUnavailable
from api.schemas.common import ProblemDocument
from api.validation import problems_of
from store import errors

_log = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"

# Type, status and title of what the store and the core raise; the first class that fits counts.
_TABLE: tuple[tuple[type[Exception], str, int, str], ...] = (
    (errors.Unauthenticated, "unauthenticated", 401, "The API key is missing or not valid"),
    (errors.NotFound, "not-found", 404, "There is no such object in this project"),
    (errors.BadCursor, "invalid", 422, "The request is not valid"),
    (
        errors.IdempotencyConflict,
        "idempotency-conflict",
        422,
        "This Idempotency-Key was used for another request",
    ),
    (errors.NotReady, "not-ready", 409, "The teacher or dataset is not ready"),
    (errors.AlreadyUploaded, "already-uploaded", 409, "Other content was uploaded before"),
    (errors.InUse, "in-use", 409, "A job that has not ended uses it"),
    (errors.Conflict, "conflict", 409, "The object's state does not allow this"),
    (errors.BlobMissing, "gone", 410, "The file's content is not there any more"),
    (DescriberUnavailable, "unavailable", 503, "The service cannot answer this at the moment"),
)
RETRY_SECONDS = 5


class Refused(Exception):
    """A request that is refused for a reason that HTTP has a status for."""

    def __init__(
        self, status: int, slug: str, detail: str, problems: Sequence[Problem] = (), title: str | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.slug = slug
        self.title = title or HTTPStatus(status).phrase
        self.problems = list(problems)


def invalid(*problems: Problem) -> Refused:
    """The request can be read and cannot work: 422, with each thing that is wrong."""
    return Refused(
        422,
        "invalid",
        " ".join(f"{p.message}." for p in problems),
        problems,
        title="The request is not valid",
    )


def install(app: FastAPI) -> None:
    """Answer every error of this app with a problem document."""

    async def refused(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Refused)
        return _answer(request, error.status, error.slug, error.title, str(error), error.problems)

    async def unusable(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        found = problems_of(error, request)
        detail = (
            f"{found[0].where}: {found[0].message}" if len(found) == 1 else f"{len(found)} things are wrong"
        )
        return _answer(request, 422, "invalid", "The request is not valid", detail, found)

    async def refusal(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Refusal)
        return _answer(request, 422, "invalid", "The request is not valid", str(error), [error.problem])

    async def tabled(request: Request, error: Exception) -> JSONResponse:
        slug, status, title = next(row[1:] for row in _TABLE if isinstance(error, row[0]))
        code = getattr(error, "code", slug)
        problem = Problem(code=code, message=str(error) or title)
        return _answer(request, status, slug, title, str(error) or title, [problem])

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        title = HTTPStatus(error.status_code).phrase
        slug = title.lower().replace(" ", "-")
        return _answer(request, error.status_code, slug, title, str(error.detail), [], error.headers)

    async def bug(request: Request, error: Exception) -> JSONResponse:
        _log.error("request %s failed", request.state.request_id, exc_info=error)
        detail = "The service has a fault of its own; tell its operator the request_id."
        return _answer(request, 500, "internal", "Internal Server Error", detail, [])

    app.add_exception_handler(Refused, refused)
    app.add_exception_handler(RequestValidationError, unusable)
    app.add_exception_handler(Refusal, refusal)
    for row in _TABLE:
        app.add_exception_handler(row[0], tabled)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, bug)


def _answer(
    request: Request,
    status: int,
    slug: str,
    title: str,
    detail: str,
    problems: Sequence[Problem],
    headers: Any = None,
) -> JSONResponse:
    document = ProblemDocument(
        type=f"urn:abdistill:problem:{slug}",
        title=title,
        status=status,
        detail=detail,
        instance=request.url.path,
        request_id=request.state.request_id,
        errors=list(problems),
    )
    extra = dict(headers or {})
    if status == HTTPStatus.UNAUTHORIZED:
        extra["WWW-Authenticate"] = "Bearer"
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        extra["Retry-After"] = str(RETRY_SECONDS)
    return JSONResponse(document.model_dump(mode="json"), status, extra, media_type=MEDIA_TYPE)


def document(app: FastAPI) -> None:
    """Put the problem document's schema, which every route's errors refer to, into the OpenAPI document."""
    schema = app.openapi()["components"]["schemas"]
    mine = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
    schema |= mine.pop("$defs", {})
    schema["ProblemDocument"] = mine


RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {
        "description": description,
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}},
    }
    for status, description in {
        401: "No API key, or one that is not valid",
        403: "The key's scopes do not allow this",
        404: "No such object in this key's project",
        409: "The object's state does not allow this",
        422: "Something in the request is wrong; `errors` says what, where, and what is allowed",
    }.items()
}
"""Documented on every route."""
