"""Around every request: its id, its line in the log, headers that browsers heed, a limit on what is no upload."""

import asyncio
import logging
import os
import re
import time
from collections.abc import Iterable
from typing import Any

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from abcore.specs.refusals import Problem
from api.audit import AuditTrail
from api.problems import Refused, fault
from api.schemas.predictions import MOST_BODY_BYTES
from api.traces import Trace, trace_of

MOST_JSON_BYTES = 2**20
MOST_JSON_VALUES = 20_000
"""Each costs a hundred times its bytes where it is wrong, and has to be told. The largest sweep has a third of them."""
_ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)
_UNLESS_GIVEN = (
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)
_FILE_PATH = re.compile(r".*/(content|parts/[^/]+)")
_IMAGES_PATH = re.compile(r"/v1/jobs/[^/]+/predictions")
_GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_log = logging.getLogger("api.access")


class Envelope:
    """ASGI middleware for all of it; a chain of small ones would copy every message several times."""

    def __init__(self, app: ASGIApp, request_seconds: float, trail: AuditTrail) -> None:
        self._app = app
        self._seconds = request_seconds
        self._trail = trail

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        trace = trace_of(headers.get("traceparent", ""))
        request_id = _request_id(headers.get("x-request-id", ""), trace)
        scope.setdefault("state", {})["request_id"] = request_id
        started = time.monotonic()
        status, location = 0, None

        async def send_with_headers(message: Message) -> None:
            nonlocal status, location
            if message["type"] == "http.response.start":
                status = message["status"]
                location = Headers(raw=message.get("headers", [])).get("location")
                told = [(b"x-request-id", request_id.encode()), *scope["state"].get("headers", ())]
                if trace is not None:
                    told.append((b"traceresponse", trace.traceresponse.encode()))
                message["headers"] = _with_ours(message.get("headers", ()), told)
            await send(message)

        is_upload = scope["method"] == "PUT" and _FILE_PATH.fullmatch(scope["path"]) is not None
        timely = _timely(receive, self._seconds, is_upload=is_upload)
        most = MOST_BODY_BYTES if _IMAGES_PATH.fullmatch(scope["path"]) else MOST_JSON_BYTES
        limited = timely if is_upload else _limited(timely, headers.get("content-length", ""), most)
        try:
            await self._app(scope, limited, send_with_headers)
        except Exception as error:
            if status:
                raise  # half an answer is out: the connection must be cut, or it would look whole
            await fault(Request(scope), error)(scope, receive, send_with_headers)
        finally:
            self._trail.note(scope, status, location)
            # The path only: a query may one day hold what does not belong into a log.
            milliseconds = (time.monotonic() - started) * 1000
            path = scope["path"].encode("unicode_escape").decode()  # no line breaks of a caller's making
            place = request_id if trace is None else f"{request_id} trace {trace.trace_id} {trace.span_id}"
            _log.info("%s %s %s %.0f ms %s", scope["method"], path, status, milliseconds, place)


def _request_id(given: str, trace: Trace | None) -> str:
    """The caller's, or that of his trace, or a new one."""
    if _GIVEN_ID.fullmatch(given):
        return given
    return os.urandom(16).hex() if trace is None else trace.trace_id


def _with_ours(
    given: Iterable[tuple[bytes, bytes]], told: Iterable[tuple[bytes, bytes]]
) -> list[tuple[bytes, bytes]]:
    """A new list: that of a response belongs to the response, which may be sent again."""
    headers = [*given, *told, *_ALWAYS]
    names = {name for name, _ in headers}
    return headers + [pair for pair in _UNLESS_GIVEN if pair[0] not in names]


def cors(origins: str) -> dict[str, Any]:
    """Options of the middleware that lets web pages of these origins, separated by commas, use the API."""
    return {
        "allow_origins": [origin.strip() for origin in origins.split(",")],
        "allow_methods": ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
        "allow_headers": [
            "Authorization",
            "Content-Type",
            "Idempotency-Key",
            "If-None-Match",
            "Last-Event-ID",
            "Range",
            "Traceparent",
            "Tracestate",
            "X-Request-ID",
        ],
        "expose_headers": [
            "ETag",
            "Location",
            "RateLimit",
            "RateLimit-Policy",
            "Retry-After",
            "Traceresponse",
            "X-Request-ID",
        ],
    }


def _timely(receive: Receive, seconds: float, *, is_upload: bool) -> Receive:
    """Give up on a body that does not come: as a whole in this time, of an upload each part."""
    deadline = None if is_upload else time.monotonic() + seconds
    whole = False

    async def timely() -> Message:
        nonlocal whole
        if whole:
            return await receive()  # that the other side goes away, whenever that is
        left = seconds if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            async with asyncio.timeout(left):
                message = await receive()
        except TimeoutError:
            raise _too_slow(seconds) from None
        whole = not message.get("more_body", False)
        return message

    return timely


def _too_slow(seconds: float) -> Refused:
    return Refused(
        Problem(
            code="request.slow",
            message=f"the body did not come within {seconds:g} s",
            where="body",
            allowed=(f"<= {seconds:g} s",),
        ),
        headers={"Connection": "close"},
    )


def _limited(receive: Receive, content_length: str, most: int) -> Receive:
    announced = int(content_length[:20]) if content_length.isdecimal() else 0
    seen = commas = 0

    async def limited() -> Message:
        nonlocal seen, commas
        message = await receive() if announced <= most else {}
        seen += len(message.get("body", b""))
        commas += message.get("body", b"").count(b",")
        if max(seen, announced) > most:
            raise _too_large(max(seen, announced), most, "bytes")
        if commas > MOST_JSON_VALUES:
            raise _too_large(commas, MOST_JSON_VALUES, "values")
        return message

    return limited


def _too_large(found: int, most: int, what: str) -> Refused:
    return Refused(
        Problem(
            code="request.too_large",
            message=f"a JSON body may have {most:,} {what}",
            where="body",
            value=found,
            allowed=(f"<= {most} {what}",),
            hint="Files are sent by PUT .../content.",
        ),
    )
