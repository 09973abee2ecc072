"""`/v1/jobs/{id}/stream`: all that a job tells, as it tells it (server-sent events)."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from typing import Annotated, Literal, NamedTuple

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse
from pydantic import TypeAdapter
from starlette.concurrency import run_in_threadpool

from api.auth import Reader
from api.context import Context, ContextDep
from api.documentation import refusals
from api.routes.jobs import find
from api.schemas.jobs import Event, Job, LogPart, Metric
from store import logs, progress
from store.errors import Unauthenticated
from store.keys import Principal, require_good
from store.models import ENDED

POLL_SECONDS = 0.5
HEARTBEAT_SECONDS = 15.0
RECONNECT_MILLISECONDS = 2000
Kind = Literal["job", "event", "metrics", "log"]
USUAL: list[Kind] = ["job", "event", "metrics"]
ID = r"^e[0-9]{1,18}\.m[0-9]{1,18}(\.l[0-9]{1,18})?$"
_METRICS = TypeAdapter(list[Metric])

router = APIRouter(prefix="/v1/jobs/{job_id}/stream", tags=["jobs"])


class Place(NamedTuple):
    """How far a reader of the stream has come: the last event, batch of figures, and part of the log."""

    event: int = 0
    batch: int = 0
    log: int = 0

    @classmethod
    def parse(cls, id_: str) -> "Place":
        """Read it from a message's `id`, which has the form of `ID`."""
        return cls(*map(int, re.findall("[0-9]+", id_)))

    def __str__(self) -> str:
        return f"e{self.event}.m{self.batch}.l{self.log}"


@router.get(
    "",
    operation_id="stream_job",
    response_class=StreamingResponse,
    responses={
        200: {"description": "Messages of the kinds below", "content": {"text/event-stream": {}}},
        **refusals(404),
    },
)
async def stream(
    job_id: str,
    context: ContextDep,
    caller: Reader,
    include: Annotated[
        list[Kind], Query(max_length=4, description="Kinds of messages, besides `end`.", examples=[["log"]])
    ] = USUAL,
    last_event_id: Annotated[
        str | None,
        Header(alias="Last-Event-ID", pattern=ID, description="`id` of the last message that was received."),
    ] = None,
) -> StreamingResponse:
    """Follow a job to its end, from its beginning or from where a reader was cut off.

    Messages are `job` (a Job, whenever it has changed), `event` (an Event), `metrics` (a list of Metric), and, where it
    is asked for, `log` (a LogPart). None of these but `job` is sent twice or left out, whatever happens to the
    connection, if `Last-Event-ID` is sent back. After the job's end, when all is told, comes `end` (the Job once more),
    and the stream is closed. A comment line every 15 seconds keeps connections alive.
    """
    place = Place() if last_event_id is None else Place.parse(last_event_id)
    await run_in_threadpool(find, context, caller.project_id, job_id)
    return StreamingResponse(
        _messages(context, caller, job_id, place, frozenset(include)),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


async def _messages(
    context: Context, caller: Principal, job_id: str, place: Place, include: frozenset[Kind]
) -> AsyncIterator[str]:
    yield f"retry: {RECONNECT_MILLISECONDS}\n\n"
    shown, spoke_at = "", time.monotonic()
    while True:
        # The job first: once it is seen to have ended, whatever it told is there to be read.
        try:
            job, news = await run_in_threadpool(_read, context, caller, job_id, place, include)
        except Unauthenticated as error:
            yield f": {error}\n\n"
            return
        content = job.model_dump_json()
        if content != shown and "job" in include:
            shown = content
            yield _message("job", place, content)
            spoke_at = time.monotonic()
        for kind, place, told in news:  # the place is where the reader is now
            yield _message(kind, place, told)
            spoke_at = time.monotonic()
        if news:
            continue
        if job.state in ENDED:
            yield _message("end", place, content)
            return
        if time.monotonic() - spoke_at >= HEARTBEAT_SECONDS:
            yield ": still here\n\n"
            spoke_at = time.monotonic()
        await asyncio.sleep(POLL_SECONDS)


def _read(
    context: Context, caller: Principal, job_id: str, place: Place, include: frozenset[Kind]
) -> tuple[Job, list[tuple[str, Place, str]]]:
    """The job as it is, and the messages that follow a place, each with the place that it brings its reader to.

    Raises:
        Unauthenticated: the key holds no longer.
    """
    require_good(context.db, caller.key_id)
    project_id = caller.project_id
    job = Job.of(find(context, project_id, job_id))
    db = context.db
    news = []
    for event in progress.events(db, project_id, job_id, place.event, 1000) if "event" in include else ():
        place = place._replace(event=event.seq)
        news.append(("event", place, Event.model_validate(event).model_dump_json()))
    batches: dict[int, list[Metric]] = {}
    for metric in progress.metrics_since(db, project_id, job_id, place.batch) if "metrics" in include else ():
        batches.setdefault(metric.batch, []).append(Metric.model_validate(metric))
    for batch, metrics in batches.items():
        place = place._replace(batch=batch)
        news.append(("metrics", place, _METRICS.dump_json(metrics).decode()))
    for part in logs.read(db, project_id, job_id, place.log) if "log" in include else ():
        place = place._replace(log=part.seq)
        news.append(("log", place, LogPart.model_validate(part).model_dump_json()))
    return job, news


def _message(kind: str, place: Place, content: str) -> str:
    return f"event: {kind}\nid: {place}\ndata: {content}\n\n"
