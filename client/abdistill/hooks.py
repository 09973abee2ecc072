"""`/v1/webhooks`: who is told of changes of state. What receives them is in `abdistill.webhooks`."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from pydantic import Field

from abdistill.models import Page
from abdistill.paging import every
from abdistill.reports import Answer
from abdistill.transport import Transport

_PATH = "/v1/webhooks"


class Webhook(Answer):
    """An address that is told of changes of state. `secret` is there only where the service has just made it."""

    id: str
    url: str
    description: str | None = None
    events: tuple[str, ...]
    enabled: bool
    disabled_reason: str | None = None
    old_secrets_until: tuple[datetime, ...] = ()
    secret: str | None = None
    created_at: datetime
    updated_at: datetime | None = None


class Delivery(Answer):
    """One event for one webhook: `pending` until it was accepted (`succeeded`) or is given up (`failed`)."""

    id: str
    webhook_id: str
    event_id: str
    type: str
    state: str
    attempts: int
    response_status: int | None = None
    error: str | None = None
    attempted_at: datetime | None = None
    next_attempt_at: datetime | None = None
    created_at: datetime
    payload: dict[str, Any] = Field(default_factory=dict)


class Webhooks:
    """`client.webhooks`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self, url: str, events: Sequence[str], *, description: str | None = None, secret: str | None = None
    ) -> Webhook:
        """Have an address told of events like `job.succeeded`; the answer's `secret` is shown this once.

        Raises Invalid where the address must not be led to, Conflict where the project has too many.
        """
        given = {"description": description, "secret": secret}
        body = {"url": url, "events": list(events)} | {k: v for k, v in given.items() if v is not None}
        return self._webhook("POST", _PATH, body)

    def get(self, webhook_id: str) -> Webhook:
        """One by its id. Raises NotFound."""
        return self._webhook("GET", f"{_PATH}/{webhook_id}")

    def list(self, *, limit: int = 20, cursor: str | None = None) -> Page[Webhook]:
        """One page, newest first."""
        return Page[Webhook].model_validate_json(self._page(_PATH, limit, cursor))

    def __iter__(self) -> Iterator[Webhook]:
        """All, newest first, page by page."""
        return every(lambda cursor: self.list(limit=100, cursor=cursor))

    def update(
        self,
        webhook_id: str,
        *,
        url: str | None = None,
        events: Sequence[str] | None = None,
        description: str | None = None,
        enabled: bool | None = None,
    ) -> Webhook:
        """Change what is given. One that is disabled is told nothing, and what was waiting for it has failed."""
        changes: dict[str, Any] = {
            "url": url,
            "events": list(events) if events is not None else None,
            "description": description,
            "enabled": enabled,
        }
        given = {name: value for name, value in changes.items() if value is not None}
        return self._webhook("PATCH", f"{_PATH}/{webhook_id}", given)

    def delete(self, webhook_id: str) -> None:
        """Delete it with its log."""
        self._transport.request("DELETE", f"{_PATH}/{webhook_id}")

    def rotate_secret(
        self, webhook_id: str, *, overlap_seconds: int | None = None, secret: str | None = None
    ) -> Webhook:
        """Give it a new `secret`; what is sent is signed by the one before too until the overlap (a day) is over."""
        given = {"overlap_seconds": overlap_seconds, "secret": secret}
        body = {name: value for name, value in given.items() if value is not None}
        return self._webhook("POST", f"{_PATH}/{webhook_id}/rotate-secret", body)

    def test(self, webhook_id: str) -> Delivery:
        """Have an event of type `webhook.test` sent; its state in the log tells what came of it.

        Raises Conflict where the webhook is disabled.
        """
        return self._delivery("POST", f"{_PATH}/{webhook_id}/test")

    def deliveries(self, webhook_id: str, *, limit: int = 20, cursor: str | None = None) -> Page[Delivery]:
        """One page of what a webhook was told or is to be told, newest first."""
        return Page[Delivery].model_validate_json(
            self._page(f"{_PATH}/{webhook_id}/deliveries", limit, cursor)
        )

    def delivery(self, webhook_id: str, delivery_id: str) -> Delivery:
        """One entry of the log. Raises NotFound."""
        return self._delivery("GET", f"{_PATH}/{webhook_id}/deliveries/{delivery_id}")

    def redeliver(self, webhook_id: str, delivery_id: str) -> Delivery:
        """Have an event sent again, now, under the id that it had. Raises Conflict where the webhook is disabled."""
        return self._delivery("POST", f"{_PATH}/{webhook_id}/deliveries/{delivery_id}/redeliver")

    def _webhook(self, method: str, path: str, body: dict[str, Any] | None = None) -> Webhook:
        return Webhook.model_validate_json(self._transport.request(method, path, json=body).content)

    def _delivery(self, method: str, path: str) -> Delivery:
        return Delivery.model_validate_json(self._transport.request(method, path).content)

    def _page(self, path: str, limit: int, cursor: str | None) -> bytes:
        params = {"limit": limit} | ({"cursor": cursor} if cursor else {})
        return self._transport.request("GET", path, params=params).content
