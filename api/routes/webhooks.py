"""`/v1/webhooks`: who is told of changes of state."""

import asyncio
import time
from contextlib import suppress

from fastapi import APIRouter, Response
from starlette.concurrency import run_in_threadpool

from abcore.specs.refusals import Problem
from api.auth import Reader, Submitter
from api.context import Context, ContextDep
from api.delivery.addresses import AddressRefused, NameUnknown, addresses_of, parse_url, resolve
from api.documentation import refusals
from api.paging import Cursor, Limit
from api.problems import Refused
from api.schemas.webhooks import (
    SECRET_FORM,
    SecretRotate,
    Webhook,
    WebhookCreate,
    WebhookPage,
    WebhookUpdate,
    WebhookWithSecret,
)
from store import webhooks
from store.errors import BadSecret, TooManyWebhooks
from store.models import Webhook as WebhookRow

RESOLVE_SECONDS = 3.0
router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])


@router.post("", status_code=201, operation_id="create_webhook", responses=refusals(409, 413, 415))
async def create(
    body: WebhookCreate, context: ContextDep, caller: Submitter, response: Response
) -> WebhookWithSecret:
    """Have an address told of changes of state. The answer holds the secret that signs, this once."""
    await _check_url(context, body.url)
    row, secret = await run_in_threadpool(_create, context, caller.project_id, body)
    response.headers["Location"] = f"/v1/webhooks/{row.id}"
    return _with_secret(row, secret)


@router.get("", operation_id="list_webhooks")
def list_(
    context: ContextDep,
    caller: Reader,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> WebhookPage:
    """List webhooks, newest first."""
    page = webhooks.list_(context.db, caller.project_id, limit=limit, cursor=cursor)
    return WebhookPage(
        data=[Webhook.of(row, time.time()) for row in page.items],
        has_more=page.next_cursor is not None,
        next_cursor=page.next_cursor,
    )


@router.get("/{webhook_id}", operation_id="get_webhook", responses=refusals(404))
def get(webhook_id: str, context: ContextDep, caller: Reader) -> Webhook:
    """Show a webhook."""
    return Webhook.of(webhooks.get(context.db, caller.project_id, webhook_id), time.time())


@router.patch("/{webhook_id}", operation_id="update_webhook", responses=refusals(404, 413, 415))
async def update(webhook_id: str, body: WebhookUpdate, context: ContextDep, caller: Submitter) -> Webhook:
    """Change a webhook's address or events, or switch it off and on."""
    if body.url is not None:
        await _check_url(context, body.url)
    changes = body.model_dump(exclude_none=True)
    row = await run_in_threadpool(webhooks.change, context.db, caller.project_id, webhook_id, changes)
    return Webhook.of(row, time.time())


@router.delete("/{webhook_id}", status_code=204, operation_id="delete_webhook", responses=refusals(404))
def delete(webhook_id: str, context: ContextDep, caller: Submitter) -> None:
    """Delete a webhook with its log."""
    webhooks.delete(context.db, caller.project_id, webhook_id)


@router.post(
    "/{webhook_id}/rotate-secret", operation_id="rotate_webhook_secret", responses=refusals(404, 413, 415)
)
def rotate_secret(
    webhook_id: str, body: SecretRotate, context: ContextDep, caller: Submitter
) -> WebhookWithSecret:
    """Give a webhook a new secret; the one before signs too for a while, so that no event is refused meanwhile."""
    try:
        row, secret = webhooks.rotate_secret(
            context.db,
            caller.project_id,
            webhook_id,
            overlap_seconds=body.overlap_seconds,
            secret=body.secret,
        )
    except BadSecret as error:
        raise _bad_secret(error) from error
    return _with_secret(row, secret)


def _create(context: Context, project_id: str, body: WebhookCreate) -> tuple[WebhookRow, str]:
    most = context.settings.webhook_limit
    try:
        return webhooks.create(
            context.db,
            project_id,
            url=body.url,
            events=body.events,
            most=most,
            description=body.description,
            secret=body.secret,
        )
    except BadSecret as error:
        raise _bad_secret(error) from error
    except TooManyWebhooks as error:
        problem = Problem(
            code=error.code,
            message=str(error),
            where="path",
            value=most,
            allowed=(f"<= {most} webhooks",),
            hint="One webhook may ask for any number of events.",
        )
        raise Refused(problem) from error


async def _check_url(context: Context, url: str) -> None:
    """Refuse at once what could never be sent to; a name that leads nowhere yet may do so later.

    Raises:
        Refused: 422
    """
    settings = context.settings
    try:
        parsed = parse_url(url, allow_http=settings.webhook_allow_http)
        with suppress(NameUnknown, TimeoutError):
            async with asyncio.timeout(RESOLVE_SECONDS):
                await addresses_of(parsed, resolve, allow_private=settings.webhook_allow_private)
    except AddressRefused as error:
        schemes = ("https://", "http://") if settings.webhook_allow_http else ("https://",)
        problem = Problem(
            code="webhook.url",
            message=str(error),
            where="url",
            value=url[:200],
            allowed=tuple(f"{scheme}HOST/PATH, HOST on the public internet" for scheme in schemes),
            hint="An operator may allow more: ABDISTILL_WEBHOOK_ALLOW_HTTP, ABDISTILL_WEBHOOK_ALLOW_PRIVATE.",
        )
        raise Refused(problem) from error


def _bad_secret(error: BadSecret) -> Refused:
    # Without the value: a secret that is nearly right is still nobody's to read in an answer.
    return Refused(Problem(code=error.code, message=str(error), where="secret", allowed=(SECRET_FORM,)))


def _with_secret(row: WebhookRow, secret: str) -> WebhookWithSecret:
    return WebhookWithSecret.of(row, time.time(), secret=secret)
