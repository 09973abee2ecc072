"""Is the process alive, and can it serve?"""

import socket
from collections.abc import Callable
from urllib.parse import urlsplit

from fastapi import APIRouter, Response

from api.context import Context, ContextDep
from api.schemas.common import Answer

router = APIRouter(tags=["health"])


class Health(Answer):
    """The process answers."""

    status: str = "ok"


class Readiness(Answer):
    """What the service stands on, each part `ok` or what is wrong with it.

    The broker and the describer are told and not waited for: jobs are found without the one, and the other is started
    when it is asked.
    """

    status: str
    parts: dict[str, str]


@router.get("/healthz", operation_id="get_health")
def healthz() -> Health:
    """Whether this process answers; says nothing about what it stands on."""
    return Health()


@router.get("/readyz", operation_id="get_readiness", responses={503: {"model": Readiness}})
def readyz(context: ContextDep, response: Response) -> Readiness:
    """Whether requests can be served: 503 where the database or the blob store is away."""
    parts = {
        "database": _check(lambda: _database(context)),
        "blobs": _check(lambda: context.blobs.exists("readyz/probe")),
        "broker": _check(lambda: _broker(context.settings.broker_url)),
        "describer": "ok" if context.describer.ready else "starting",
    }
    ready = parts["database"] == parts["blobs"] == "ok"
    response.status_code = 200 if ready else 503
    return Readiness(status="ok" if ready else "not ready", parts=parts)


def _check(part: Callable[[], object]) -> str:
    try:
        part()
    except Exception as error:  # whatever is wrong with a part is this page's news
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
    return "ok"


def _database(context: Context) -> None:
    if context.db.schema_revision() is None:
        raise RuntimeError("there are no tables: run `abdistill-server migrate`")


def _broker(url: str | None) -> None:
    if url is None:
        raise RuntimeError("none is configured: workers find jobs by polling")
    parts = urlsplit(url)
    if parts.scheme == "redis+socket":
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(2)
            probe.connect(parts.path)
    else:
        socket.create_connection((parts.hostname or "localhost", parts.port or 6379), timeout=2).close()
