"""For who receives webhooks: is this request from the service, and of now? Needs no client and no connection.

    event = webhooks.verify(body, request.headers, "whsec_...")

The scheme is that of the Standard Webhooks specification 1.0.0, so any of its libraries does as well.
"""

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Iterable
from typing import Any, Protocol

from abdistill.errors import ConfigurationError, InvalidSignature

PREFIX = "whsec_"
TOLERANCE_SECONDS = 300.0


class Headers(Protocol):
    """A request's headers, however its framework keeps them; names are compared without regard to case."""

    def items(self) -> Iterable[tuple[str, str]]:
        """Names and values."""
        ...


def verify(
    payload: bytes | str,
    headers: Headers,
    secret: str,
    *,
    tolerance_seconds: float = TOLERANCE_SECONDS,
    now: float | None = None,
) -> dict[str, Any]:
    """Return the event in a request's body, as `{"type": ..., "timestamp": ..., "data": {"id": ..., "state": ...}}`.

    An event may come more than once; its header `webhook-id` is the same then.

    Args:
        payload: the body as it came, not parsed and written anew.
        tolerance_seconds: how far the request's time may be from `now` (UNIX seconds; None: this machine's clock).

    Raises:
        InvalidSignature: it is not signed by this secret, or not now. Answer 401, and do nothing else.
        ConfigurationError: the secret is none.
    """
    body = payload.encode() if isinstance(payload, str) else payload
    given = {name.lower(): value for name, value in headers.items()}
    id_, moment, signatures = (
        _required(given, name) for name in ("webhook-id", "webhook-timestamp", "webhook-signature")
    )
    expected = hmac.new(_key(secret), f"{id_}.{moment}.".encode() + body, hashlib.sha256).digest()
    wanted = b"v1," + base64.b64encode(expected)
    # All are compared, each in constant time: how long it takes tells nothing about any of them.
    matches = [hmac.compare_digest(wanted, one.encode()) for one in signatures.split(" ")]
    if not any(matches):
        raise InvalidSignature("no signature of the request is by this secret: it is not from the service")
    _check_time(moment, time.time() if now is None else now, tolerance_seconds)
    event: dict[str, Any] = json.loads(body)
    return event


def _check_time(moment: str, now: float, tolerance_seconds: float) -> None:
    if not (moment.isascii() and moment.isdigit()):
        raise InvalidSignature("the header webhook-timestamp is no number of seconds")
    if abs(int(moment) - now) > tolerance_seconds:
        raise InvalidSignature(
            f"the request was signed {now - int(moment):.0f} s ago, more than {tolerance_seconds:g} s away: it is sent "
            "again by somebody else, or a clock is wrong"
        )


def _required(given: dict[str, str], name: str) -> str:
    if name not in given:
        raise InvalidSignature(f"the request has no header {name}")
    return given[name]


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if not key:
        raise ConfigurationError(
            f"the webhook's secret must be {PREFIX} and base64, as the service showed it"
        )
    return key
