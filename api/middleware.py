"""Around every request: its id, its line in the log, headers that browsers heed, a limit on what is no upload."""

import logging
import re
import time
import uuid
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_JSON_BYTES = 2**20
_GIVEN_ID = re.compile(r"^[A-Za-z0-9._-]{1,64}$")
_log = logging.getLogger("api.access")


class Envelope:
    """ASGI middleware for all of it; a chain of small ones would copy every message several times."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _GIVEN_ID.match(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        started = time.monotonic()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                answer = MutableHeaders(scope=message)
                answer["X-Request-ID"] = request_id
                answer["X-Content-Type-Options"] = "nosniff"
                answer["Referrer-Policy"] = "no-referrer"
                answer.setdefault("Cache-Control", "no-store")
            await send(message)

        is_upload = scope["method"] == "PUT" and scope["path"].endswith("/content")
        try:
            await self._app(scope, receive if is_upload else _limited(receive), send_with_headers)
        finally:
            # The path only: a query may one day hold what does not belong into a log.
            milliseconds = (time.monotonic() - started) * 1000
            _log.info("%s %s %s %.0f ms %s", scope["method"], scope["path"], status, milliseconds, request_id)


def _limited(receive: Receive) -> Receive:
    seen = 0

    async def limited() -> Message:
        nonlocal seen
        message: dict[str, Any] = dict(await receive())
        seen += len(message.get("body", b""))
        if seen > MOST_JSON_BYTES:
            raise HTTPException(
                413, f"The body has more than {MOST_JSON_BYTES:,} bytes; send files to .../content."
            )
        return message

    return limited
