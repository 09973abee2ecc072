"""`/v1/webhooks/{id}/deliveries`: what a webhook was told, and what came of it."""

from fastapi import APIRouter

from api.auth import Reader, Submitter
from api.context import ContextDep
from api.documentation import refusals
from api.paging import Cursor, Limit
from api.schemas.webhooks import Delivery, DeliveryPage
from store import deliveries, webhooks

router = APIRouter(prefix="/v1/webhooks/{webhook_id}", tags=["webhooks"])


@router.post("/test", status_code=202, operation_id="test_webhook", responses=refusals(404, 409))
def test(webhook_id: str, context: ContextDep, caller: Submitter) -> Delivery:
    """Send an event of type `webhook.test`, whatever the webhook asks for; its log tells what comes of it."""
    return Delivery.of(webhooks.test(context.db, caller.project_id, webhook_id))


@router.get("/deliveries", operation_id="list_webhook_deliveries", responses=refusals(404))
def list_(
    webhook_id: str,
    context: ContextDep,
    caller: Reader,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> DeliveryPage:
    """List what a webhook was told or is to be told, newest first."""
    page = deliveries.list_(context.db, caller.project_id, webhook_id, limit=limit, cursor=cursor)
    return DeliveryPage(
        data=[Delivery.of(row) for row in page.items],
        has_more=page.next_cursor is not None,
        next_cursor=page.next_cursor,
    )


@router.get("/deliveries/{delivery_id}", operation_id="get_webhook_delivery", responses=refusals(404))
def get(webhook_id: str, delivery_id: str, context: ContextDep, caller: Reader) -> Delivery:
    """Show one event for one webhook."""
    return Delivery.of(deliveries.get(context.db, caller.project_id, webhook_id, delivery_id))


@router.post(
    "/deliveries/{delivery_id}/redeliver",
    status_code=202,
    operation_id="redeliver_webhook_delivery",
    responses=refusals(404, 409),
)
def redeliver(webhook_id: str, delivery_id: str, context: ContextDep, caller: Submitter) -> Delivery:
    """Send an event again, now, with the same id, whether it had failed, succeeded, or was waiting."""
    return Delivery.of(deliveries.redeliver(context.db, caller.project_id, webhook_id, delivery_id))
