"""Is the process alive, and can it serve?"""

import logging
import socket
from collections.abc import Callable
from functools import cache
from typing import Literal
from urllib.parse import urlsplit

from fastapi import APIRouter, Response

from api.context import Context, ContextDep
from api.schemas.base import Answer
from store.schema import head as _head

head = cache(_head)  # reads the migrations' files, which do not change while the process runs
_log = logging.getLogger(__name__)
router = APIRouter(tags=["health"])


class Health(Answer):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Readiness(Answer):
    """What the service stands on, each part `ok` or what is wrong with it.

    The broker and the describer are told and not waited for: jobs are found without the one, and the other is started
    when it is asked.
    """

    status: Literal["ok", "not ready"]
    parts: dict[str, str]


@router.get("/healthz", operation_id="get_health")
def healthz() -> Health:
    """Whether this process answers; says nothing about what it stands on."""
    return Health()


@router.get("/readyz", operation_id="get_readiness", responses={503: {"model": Readiness}})
def readyz(context: ContextDep, response: Response) -> Readiness:
    """Whether requests can be served: 503 where the database or the blob store is away."""
    parts = {
        "database": _check("database", lambda: _database(context)),
        "blobs": _check("blobs", context.blobs.check),
        "broker": _check("broker", lambda: _broker(context.settings.broker_url)),
        "describer": "ok" if context.describer.ready else "starting",
    }
    ready = parts["database"] == parts["blobs"] == "ok"
    response.status_code = 200 if ready else 503
    return Readiness(status="ok" if ready else "not ready", parts=parts)


class _Unready(Exception):
    """Something that everybody may know: this page asks for no key."""


def _check(part: str, probe: Callable[[], None]) -> str:
    try:
        probe()
    except _Unready as reason:
        return str(reason)
    except Exception as error:  # whatever is wrong with a part is this page's news
        # What a driver says may hold addresses and user names: that is for the log.
        _log.warning("%s is away: %s", part, error)
        return f"away ({type(error).__name__}; the service's log says more)"
    return "ok"


def _database(context: Context) -> None:
    revision = context.db.schema_revision()
    if revision != head():
        state = "has no tables" if revision is None else "is at another version's tables"
        raise _Unready(f"the database {state}: run `abdistill-server migrate`")


def _broker(url: str | None) -> None:
    if url is None:
        raise _Unready("none is configured: workers find jobs by polling")
    parts = urlsplit(url)
    if parts.scheme == "redis+socket":
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(2)
            probe.connect(parts.path)
    else:
        socket.create_connection((parts.hostname or "localhost", parts.port or 6379), timeout=2).close()
