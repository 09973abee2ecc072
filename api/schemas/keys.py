"""API keys, as those who may make them see them."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from api.schemas.base import Answer, Body, Name, Page, Time
from store.keys import Scope

MOST_GRACE_SECONDS = 7 * 86400
MOST_LIFETIME_SECONDS = 36500 * 86400
CREATE_EXAMPLE: JsonDict = {"name": "ci", "scopes": ["read", "submit"], "lifetime_seconds": 7776000}


class KeyCreate(Body):
    """A new key of the caller's project."""

    model_config = ConfigDict(json_schema_extra={"examples": [CREATE_EXAMPLE]})

    name: Name = Field(description="Who or what will use it.")
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=3)] = Field(
        description="What it may do: `read` reads, `submit` creates and changes, `admin` does all."
    )
    lifetime_seconds: int | None = Field(
        default=None, ge=1, le=MOST_LIFETIME_SECONDS, description="It expires after so long; null: never."
    )


class KeyRotate(Body):
    """A new secret in place of a key's; what it may do and when it expires stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"grace_seconds": 3600}]})

    grace_seconds: int = Field(
        default=0, ge=0, le=MOST_GRACE_SECONDS, description="For how long the secret before opens too."
    )


class Key(Answer):
    """A key without its secret, which is shown once, when it is made."""

    object: Literal["key"] = "key"
    id: str
    name: str
    scopes: list[Scope]
    hint: str = Field(description="The last four characters of its secret.")
    created_at: Time
    expires_at: Time | None = Field(description="Null: never.")
    last_used_at: Time | None = Field(description="To the minute.")
    revoked_at: Time | None
    previous_until: Time | None = Field(description="How long the secret before the last rotation opens too.")


class KeyWithSecret(Key):
    """A key with its secret, which is not shown again."""

    secret: str


class KeyPage(Page[Key]):
    """Part of a list of keys."""
