"""Polls: the same question again and again, answered from memory while the answer cannot be older than said here."""

import hashlib
import time
from dataclasses import dataclass
from threading import Lock
from typing import NamedTuple

from fastapi import Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api.etags import matches
from store.database import Database

KEEP_SECONDS = 0.25
"""How long an answer stands, and with it the look at its asker's key, whatever another process has changed since."""
RENEW_SECONDS = 0.2
"""Who asks after this gets a new one, while the others still get the old: an answer that ends finds nobody waiting."""
MOST_BYTES = 32 * 2**20


class Asked(NamedTuple):
    """A question: by the hash of whose key, and which; and when it came, by the clock and by this process's commits."""

    who: bytes
    path: str
    time: float
    commit: int


class Answer:
    """What is said to a question: `content`, or to those who have it (If-None-Match) that it is still so."""

    def __init__(self, content: bytes) -> None:
        self.etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        headers = {"ETag": self.etag, "Cache-Control": "private, no-cache"}
        self.size_bytes = len(content)
        self._whole = Response(content, headers=headers, media_type="application/json")
        self._unchanged = Response(status_code=304, headers=headers)

    def to(self, if_none_match: str | None) -> Response:
        """The response to one who has this; it may be sent more than once."""
        return self._unchanged if matches(if_none_match, self.etag) else self._whole


@dataclass
class _Kept:
    """An answer, the question that it was looked up for, and whether somebody looks it up again."""

    asked: Asked
    answer: Answer
    is_renewed: bool = False


class Polls:
    """The answers of the last moment.

    One is good for KEEP_SECONDS, and only while no transaction of this process has committed since it was asked for:
    who writes through this process reads what he wrote.
    """

    def __init__(self) -> None:
        self._answers: dict[tuple[bytes, str], _Kept] = {}
        self._bytes = 0
        self._lock = Lock()

    def find(self, asked: Asked) -> Answer | None:
        """An answer to the same question that is still good; None for the one who shall have it looked up."""
        kept = self._answers.get((asked.who, asked.path))
        if kept is None or not _is_good(kept.asked, asked):
            return None
        if asked.time - kept.asked.time >= RENEW_SECONDS and not kept.is_renewed:
            kept.is_renewed = True
            return None
        return kept.answer

    def keep(self, asked: Asked, answer: Answer) -> None:
        """Have an answer for who asks this next; let go of the old ones, and of the oldest where there is no room."""
        with self._lock:
            self._forget((asked.who, asked.path))
            self._answers[asked.who, asked.path] = _Kept(asked, answer)
            self._bytes += answer.size_bytes
            for question, old in list(self._answers.items()):
                if _is_good(old.asked, asked) and self._bytes <= MOST_BYTES:
                    break
                self._forget(question)

    def _forget(self, question: tuple[bytes, str]) -> None:
        if (old := self._answers.pop(question, None)) is not None:
            self._bytes -= old.answer.size_bytes


class AnswerPolls:
    """ASGI middleware: a question that was answered a moment ago gets that answer, and nothing is looked up."""

    def __init__(self, app: ASGIApp, polls: Polls) -> None:
        self._app = app
        self._polls = polls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or else write down what was asked and when, for the route (`asked_of`)."""
        if scope["type"] == "http" and scope["method"] == "GET" and not scope["query_string"]:
            headers = dict(reversed(scope["headers"]))  # of one that is sent twice the first counts
            authorization = headers.get(b"authorization")
            # To what a web page is sent the CORS middleware adds headers: nothing that is kept for others.
            if authorization is not None and b"origin" not in headers:
                who = hashlib.sha256(authorization).digest()
                asked = Asked(who, scope["path"], time.monotonic(), Database.last_commit)
                if (answer := self._polls.find(asked)) is not None:
                    known = headers.get(b"if-none-match")
                    response = answer.to(None if known is None else known.decode("latin-1"))
                    await response(scope, receive, send)
                    return
                scope["state"]["asked"] = asked
        await self._app(scope, receive, send)


def asked_of(request: Request) -> Asked | None:
    """What a request asks, if it is a question whose answer may be kept."""
    asked: Asked | None = getattr(request.state, "asked", None)
    return asked


def _is_good(first: Asked, now: Asked) -> bool:
    return first.commit == now.commit and now.time - first.time < KEEP_SECONDS
