"""Webhooks, and the log of what they were told."""

import json
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from api.schemas.base import ONE_LINE, Answer, Body, Page, Time
from store.models import Delivery as DeliveryRow
from store.models import EventType
from store.models import Webhook as WebhookRow
from store.webhooks import rotations

Url = Annotated[str, Field(min_length=1, max_length=2000)]
Events = Annotated[list[EventType], Field(min_length=1, max_length=32)]
Description = Annotated[str, Field(max_length=500, pattern=ONE_LINE)]
Secret = Annotated[str, Field(max_length=200)]

MOST_OVERLAP_SECONDS = 7 * 86400
SECRET_FORM = "whsec_ and base64 of 24 to 64 bytes"  # noqa: S105 - what one looks like
CREATE_EXAMPLE: JsonDict = {
    "url": "https://example.com/hooks/abdistill",
    "events": ["job.succeeded", "job.failed"],
    "description": "tells the build system",
}


class WebhookCreate(Body):
    """An address that is to be told of changes of state, by the Standard Webhooks specification."""

    model_config = ConfigDict(json_schema_extra={"examples": [CREATE_EXAMPLE]})

    url: Url = Field(
        examples=["https://example.com/hooks/abdistill"],
        description="Where events are sent by POST; it must be on the public internet.",
    )
    events: Events = Field(examples=[["job.succeeded", "job.failed"]], description="Which events it is told.")
    description: Description | None = None
    secret: Secret | None = Field(
        default=None, description=f"Signs what is sent: {SECRET_FORM}. Without one, one is made."
    )


class WebhookUpdate(Body):
    """What of a webhook may be changed; what is left out or null stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"enabled": False}]})

    url: Url | None = None
    events: Events | None = Field(default=None, description="In place of all before.")
    description: Description | None = None
    enabled: bool | None = Field(
        default=None, description="False: it is told nothing, and what was waiting for it has failed."
    )


class SecretRotate(Body):
    """A new secret; what is sent is signed by the one before too until the overlap is over."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"overlap_seconds": 3600}]})

    secret: Secret | None = Field(default=None, description=f"{SECRET_FORM}. Without one, one is made.")
    overlap_seconds: int = Field(
        default=86400,
        ge=0,
        le=MOST_OVERLAP_SECONDS,
        description="For how long the secret before signs too.",
    )


class Webhook(Answer):
    """An address that is told of changes of state. Its secret is shown once, when it is made."""

    object: Literal["webhook"] = "webhook"
    id: str
    url: str
    description: str | None
    events: list[EventType]
    enabled: bool
    disabled_reason: str | None = Field(description="Null while it is enabled.")
    old_secrets_until: list[Time] = Field(
        description="How long each secret that was replaced signs too, the newest first."
    )
    created_at: Time
    updated_at: Time

    @classmethod
    def of(cls, row: WebhookRow, now: float, **more: Any) -> Self:
        """Show a row; `now` in UNIX seconds."""
        fields = {name: getattr(row, name) for name in cls.model_fields if hasattr(row, name)}
        return cls.model_validate(fields | {"old_secrets_until": rotations(row, now)} | more)


class WebhookWithSecret(Webhook):
    """A webhook with its secret, which is not shown again."""

    secret: str


class Delivery(Answer):
    """One event for one webhook, and what came of sending it."""

    object: Literal["delivery"] = "delivery"
    id: str
    webhook_id: str
    event_id: str = Field(description="The header `webhook-id`: the same at every attempt.")
    type: str = Field(description="Of the event: one of those that a webhook may ask for, or `webhook.test`.")
    state: Literal["pending", "succeeded", "failed"] = Field(
        description="`pending` until it was accepted, or is not tried any more."
    )
    attempts: int
    response_status: int | None = Field(description="HTTP status of the last answer.")
    error: str | None = Field(description="Why the last attempt did not succeed.")
    attempted_at: Time | None
    next_attempt_at: Time | None = Field(description="When it is tried next; null where it is not.")
    created_at: Time
    payload: dict[str, Any] = Field(description="What is sent.")

    @classmethod
    def of(cls, row: DeliveryRow) -> "Delivery":
        """Show a row."""
        fields = {name: getattr(row, name) for name in cls.model_fields if hasattr(row, name)}
        return cls.model_validate(fields | {"payload": json.loads(row.body)})


class WebhookPage(Page[Webhook]):
    """Part of a list of webhooks."""


class DeliveryPage(Page[Delivery]):
    """Part of a webhook's log."""
