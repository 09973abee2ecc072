"""Every way to say no, as RFC 9457 problem documents: one table from errors to answers."""

import json
import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import NamedTuple

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from abcore.specs.refusals import Problem, Refusal
from api.describing_process import DescriberUnavailable
from api.schemas.base import ProblemDocument
from api.validation import problems_of
from store import errors

_log = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 5
INVALID = "The request is not valid"


class Row(NamedTuple):
    """How an error is answered. `where` names the part of the request that it is about."""

    slug: str
    status: int
    title: str
    where: str | None = None


# What the store and the core raise; Starlette takes the row of the nearest class.
TABLE: dict[type[Exception], Row] = {
    errors.Unauthenticated: Row(
        "unauthenticated", 401, "The API key is missing or not valid", "header.Authorization"
    ),
    errors.NotFound: Row("not-found", 404, "There is no such object in this project", "path"),
    errors.BadCursor: Row("invalid", 422, INVALID, "query.cursor"),
    errors.IdempotencyConflict: Row(
        "idempotency-conflict",
        422,
        "This Idempotency-Key was used for another request",
        "header.Idempotency-Key",
    ),
    errors.NotReady: Row("not-ready", 409, "The teacher or dataset is not ready"),
    errors.AlreadyUploaded: Row("already-uploaded", 409, "Other content was uploaded before", "body"),
    errors.InUse: Row("in-use", 409, "A job that has not ended uses it", "path"),
    errors.Conflict: Row("conflict", 409, "The object's state does not allow this", "path"),
    errors.BlobMissing: Row("gone", 410, "The file's content is not there any more", "path"),
    DescriberUnavailable: Row("unavailable", 503, "The service cannot answer this at the moment"),
}


class Refused(HTTPException):
    """A request that is refused for a reason that HTTP has a status for."""

    def __init__(
        self,
        status: int,
        slug: str,
        title: str,
        *problems: Problem,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, " ".join(f"{p.message.rstrip('.')}." for p in problems), headers)
        self.slug = slug
        self.title = title
        self.problems = problems


def invalid(*problems: Problem) -> Refused:
    """The request can be read and cannot work: 422, with each thing that is wrong."""
    return Refused(422, "invalid", INVALID, *problems)


def install(app: FastAPI) -> None:
    """Answer every error of this app with a problem document; what is no error of a request is left to `fault`."""

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        row = Row(error.slug, error.status_code, error.title)
        return _answer(request, row, error.detail, error.problems, error.headers)

    async def unusable(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        if isinstance(error.body, bytes):
            return await refused(request, _not_json(request))
        found = problems_of(error, request)
        detail = f"{found[0].where}: {found[0].message.rstrip('.')}."
        if len(found) > 1:
            detail = f"{len(found)} things are wrong; the first: {detail}"
        return _answer(request, Row("invalid", 422, INVALID), detail, found)

    async def refusal(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        return _answer(request, Row("invalid", 422, INVALID), str(error), [error.problem])

    async def tabled(request: Request, error: Exception) -> Response:
        row = next(TABLE[kind] for kind in type(error).__mro__ if kind in TABLE)
        problem = Problem(code=getattr(error, "code", row.slug), message=str(error), where=row.where)
        return _answer(request, row, str(error), [problem])

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        title = HTTPStatus(error.status_code).phrase
        row = Row(title.lower().replace(" ", "-"), error.status_code, title)
        headers = error.headers or {}
        methods = tuple(headers["Allow"].split(", ")) if "Allow" in headers else ()
        problem = Problem(
            code=f"request.{row.slug.replace('-', '_')}",
            message=error.detail,
            where="method" if methods else "body" if error.status_code == 400 else "path",
            value=request.method if methods else None,
            allowed=methods,
            hint="/docs lists every path with its methods, fields and examples.",
        )
        return _answer(request, row, error.detail, [problem], headers)

    app.add_exception_handler(Refused, refused)
    app.add_exception_handler(RequestValidationError, unusable)
    app.add_exception_handler(Refusal, refusal)
    for kind in TABLE:
        app.add_exception_handler(kind, tabled)
    app.add_exception_handler(HTTPException, http)


def fault(request: Request, error: Exception) -> Response:
    """The answer where the service itself is at fault: nothing about how, which is for its log."""
    _log.error("request %s failed", request.state.request_id, exc_info=error)
    detail = "The service has a fault of its own; tell its operator the request_id."
    problem = Problem(code="internal", message=detail)
    return _answer(request, Row("internal", 500, "Internal Server Error"), detail, [problem])


def _not_json(request: Request) -> Refused:
    return Refused(
        415,
        "media-type",
        "The body is not of a type that is read here",
        Problem(
            code="request.media_type",
            message="the body must be JSON, and say so",
            where="header.Content-Type",
            value=request.headers.get("content-type"),
            allowed=("application/json",),
        ),
        headers={"Accept": "application/json"},
    )


def _answer(
    request: Request,
    row: Row,
    detail: str,
    problems: Sequence[Problem],
    headers: Mapping[str, str] | None = None,
) -> Response:
    document = ProblemDocument(
        type=f"urn:abdistill:problem:{row.slug}",
        title=row.title,
        status=row.status,
        detail=detail,
        instance=request.url.path,
        request_id=request.state.request_id,
        errors=list(problems),
    )
    extra = dict(headers or {})
    if row.status == HTTPStatus.UNAUTHORIZED:
        extra["WWW-Authenticate"] = "Bearer"
    if row.status == HTTPStatus.SERVICE_UNAVAILABLE:
        extra["Retry-After"] = str(RETRY_SECONDS)
    # Pure ASCII: a value that is echoed may hold what UTF-8 cannot, like half of a surrogate pair.
    return Response(json.dumps(document.model_dump()), row.status, extra, media_type=MEDIA_TYPE)
