"""What every request works with, made once when the app starts."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from api.describer import Describer
from api.polls import Polls
from api.predictor import Predictor
from api.rates import RateLimiter
from store.blobs import BlobStore
from store.database import Database
from store.imports import Places
from store.queue import Doorbell
from store.settings import Settings


@dataclass(frozen=True)
class Context:
    """The rooms below, opened."""

    settings: Settings
    db: Database
    blobs: BlobStore
    places: Places
    doorbell: Doorbell
    describer: Describer
    predictor: Predictor
    polls: Polls
    rates: RateLimiter | None


async def _context(request: Request) -> Context:  # async: nothing to wait for, so no thread for it
    context: Context = request.app.state.context
    return context


ContextDep = Annotated[Context, Depends(_context)]
