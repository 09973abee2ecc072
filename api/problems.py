"""Every way to say no, as RFC 9457 problem documents: made from a problem's code by the tables of codes and types."""

import json
import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import InterfaceError, OperationalError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from abcore.specs.codes import CODES
from abcore.specs.refusals import Problem, Refusal
from api.asked_process import TorchUnavailable
from api.problem_types import TYPES, uri
from api.schemas.base import ProblemDocument
from api.validation import MOST_PROBLEMS, problems_of
from store import errors

_log = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 5
METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")


# What the store and the core raise, and the part of the request that it is about; Starlette takes the nearest class.
TABLE: dict[type[Exception], str | None] = {
    errors.Unauthenticated: "header.Authorization",
    errors.QueueFull: None,
    errors.StorageFull: None,
    errors.NotFound: "path",
    errors.UnknownUpload: "upload",
    errors.BadCursor: "query.cursor",
    errors.IdempotencyConflict: "header.Idempotency-Key",
    errors.NotReady: None,
    errors.AlreadyUploaded: "body",
    errors.Conflict: "path",
    errors.BlobMissing: "path",
    errors.BlobsUnusable: None,
    TorchUnavailable: None,
}
# What Starlette raises by itself.
HTTP_CODES = {404: "request.not_found", 405: "request.method_not_allowed"}


class Refused(HTTPException):
    """A request that is refused; the code of the first problem says by which type of document."""

    def __init__(self, *problems: Problem, headers: Mapping[str, str] | None = None) -> None:
        status = TYPES[CODES[problems[0].code].type].status
        super().__init__(status, " ".join(f"{p.message.rstrip('.')}." for p in problems), headers)
        self.problems = problems


def install(app: FastAPI) -> None:
    """Answer every error of this app with a problem document; what is no error of a request is left to `fault`."""

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        return _answer(request, error.detail, error.problems, error.headers)

    async def unusable(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        if isinstance(error.body, bytes):
            return await refused(request, _not_json(request))
        found = problems_of(error, request)
        detail = f"{found[0].where}: {found[0].message.rstrip('.')}."
        if len(found) > 1:
            more = " or more" if len(found) >= MOST_PROBLEMS else ""
            detail = f"{len(found)}{more} things are wrong; the first: {detail}"
        return _answer(request, detail, found)

    async def refusal(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        return _answer(request, str(error), [error.problem])

    async def tabled(request: Request, error: Exception) -> Response:
        where = next(TABLE[kind] for kind in type(error).__mro__ if kind in TABLE)
        assert isinstance(error, errors.StoreError | TorchUnavailable)
        problem = Problem(code=error.code, message=str(error), where=where)
        if isinstance(error, errors.UnknownUpload):
            problem = problem.model_copy(update={"value": error.upload_id})
        if isinstance(error, errors.QuotaExceeded):
            problem = problem.model_copy(update={"value": error.used, "allowed": (f"<= {error.limit}",)})
        return _answer(request, str(error), [problem])

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        headers = error.headers or {}
        methods = _methods_at(request) if error.status_code == 405 else ()
        if methods:
            headers = {**headers, "Allow": ", ".join(methods)}
        problem = Problem(
            code=HTTP_CODES.get(error.status_code, "request.bad_request"),
            message=error.detail,
            where="method" if methods else "body" if error.status_code == 400 else "path",
            value=request.method if methods else None,
            allowed=methods,
        )
        return _answer(request, error.detail, [problem], headers)

    app.add_exception_handler(Refused, refused)
    app.add_exception_handler(RequestValidationError, unusable)
    app.add_exception_handler(Refusal, refusal)
    for kind in TABLE:
        app.add_exception_handler(kind, tabled)
    app.add_exception_handler(HTTPException, http)
    for kind in (OperationalError, InterfaceError):
        app.add_exception_handler(kind, _without_database)


def fault(request: Request, error: Exception) -> Response:
    """The answer where the service itself is at fault: nothing about how, which is for its log."""
    _log.error("request %s failed", request.state.request_id, exc_info=error)
    detail = "The service has a fault of its own; tell its operator the request_id."
    problem = Problem(code="internal", message=detail)
    return _answer(request, detail, [problem])


async def _without_database(request: Request, error: Exception) -> Response:
    assert isinstance(error, OperationalError | InterfaceError)
    if getattr(error.orig, "sqlite_errorname", None) == "SQLITE_ERROR":
        raise error  # SQLite's word for a statement that is wrong
    _log.warning("request %s: the database is away: %s", request.state.request_id, error.orig)
    message = "The service cannot reach its database at the moment."
    return _answer(request, message, [Problem(code="database.away", message=message)])


def _methods_at(request: Request) -> tuple[str, ...]:
    """All methods of the path: Starlette names those of the first route alone that has it.

    A path that is documented as it stands, `/v1/teachers/train`, is not another's that has a parameter in that place.
    """
    own = request.app.openapi()["paths"].get(request.url.path)
    if own is not None:
        return tuple(method for method in METHODS if method.lower() in own)
    return tuple(
        method
        for method in METHODS
        if any(
            route.matches({**request.scope, "method": method})[0] == Match.FULL
            for route in request.app.routes
        )
    )


def _not_json(request: Request) -> Refused:
    return Refused(
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
    request: Request, detail: str, problems: Sequence[Problem], headers: Mapping[str, str] | None = None
) -> Response:
    name = CODES[problems[0].code].type
    kind = TYPES[name]
    document = ProblemDocument(
        type=uri(name),
        title=kind.title,
        status=kind.status,
        detail=detail,
        instance=request.url.path,
        request_id=request.state.request_id,
        errors=list(problems),
    )
    extra = dict(headers or {})
    if kind.status == HTTPStatus.UNAUTHORIZED:
        extra["WWW-Authenticate"] = "Bearer"
    if kind.status == HTTPStatus.SERVICE_UNAVAILABLE:
        extra["Retry-After"] = str(RETRY_SECONDS)
    # Pure ASCII: a value that is echoed may hold what UTF-8 cannot, like half of a surrogate pair.
    return Response(json.dumps(document.model_dump()), kind.status, extra, media_type=MEDIA_TYPE)
