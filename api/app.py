"""The HTTP service, as a table of contents."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI
from fastapi.middleware.cors import CORSMiddleware

from api import documentation, openapi
from api import problems as refusals
from api.audit import AuditTrail
from api.context import Context
from api.delivery.deliverer import Deliverer
from api.describer import Describer
from api.logs import show_logs
from api.middleware import Envelope, cors
from api.polls import AnswerPolls, Polls
from api.predictor import Predictor
from api.rates import RateLimiter
from api.routes import (
    architectures,
    artifacts,
    audit,
    compare,
    datasets,
    deliveries,
    docs,
    estimates,
    evaluations,
    events,
    health,
    job_actions,
    jobs,
    keys,
    logs,
    metrics,
    predictions,
    problems,
    recipes,
    stream,
    sweeps,
    teachers,
    uploads,
    usage,
    webhooks,
)
from api.sweeper import Sweeper
from api.validation import refuse_unknown_queries
from store.blobs import open_blobs
from store.database import Database
from store.imports import Places
from store.queue import Doorbell
from store.settings import Settings, get_settings


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the app; without settings, from this process's environment."""
    settings = settings or get_settings()
    polls = Polls()
    trail = AuditTrail()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        show_logs()
        context = Context(
            settings=settings,
            db=Database(settings.database_url),
            blobs=open_blobs(settings.blobs_url),
            places=Places(settings.import_from),
            doorbell=Doorbell(settings.broker_url),
            describer=Describer(),
            predictor=Predictor(settings),
            polls=polls,
            rates=RateLimiter(settings.key_requests) if settings.key_requests else None,
        )
        app.state.context = context
        sweeper = Sweeper(context)
        deliverer = Deliverer(context.db, settings)
        context.describer.start()
        sweeper.start()
        trail.start(context.db)
        deliverer.start()
        try:
            yield
        finally:
            await deliverer.close()
            sweeper.close()
            trail.close()
            context.describer.close()
            context.predictor.close()
            context.doorbell.close()
            context.db.dispose()

    app = FastAPI(
        **openapi.INFO, separate_input_output_schemas=False, docs_url=None, redoc_url=None, lifespan=lifespan
    )
    app.add_middleware(AnswerPolls, polls=polls)
    if settings.cors_origins:
        app.add_middleware(CORSMiddleware, **cors(settings.cors_origins))
    app.add_middleware(Envelope, request_seconds=settings.request_seconds, trail=trail)
    refusals.install(app)
    app.include_router(health.router)
    app.include_router(
        problems.router, responses=documentation.refusals(422), dependencies=[Depends(refuse_unknown_queries)]
    )
    for resource in (
        teachers,
        evaluations,
        datasets,
        uploads,
        jobs,
        estimates,
        job_actions,
        stream,
        events,
        metrics,
        logs,
        artifacts,
        predictions,
        sweeps,
        compare,
        architectures,
        recipes,
        webhooks,
        deliveries,
        usage,
        keys,
        audit,
    ):
        app.include_router(
            resource.router,
            responses=documentation.EVERY_ROUTE,
            dependencies=[Depends(refuse_unknown_queries)],
        )
    app.include_router(docs.router)
    docs.serve_assets(app)
    openapi.complete(app)
    return app
