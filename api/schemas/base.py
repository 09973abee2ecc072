"""What all bodies have in common."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.config import JsonDict
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticKnownError

from abcore.specs.base import Exact
from abcore.specs.refusals import Problem


def _utc(moment: object) -> object:
    return datetime.fromtimestamp(moment, UTC) if isinstance(moment, int | float) else moment


Time = Annotated[datetime, BeforeValidator(_utc), Field(description="RFC 3339, UTC.")]
"""A row's UNIX seconds, as a date and time."""


def _written_out(moment: object) -> object:
    if isinstance(moment, str) and not re.match(r"\d{4}-", moment):
        raise PydanticKnownError("datetime_parsing", {"error": "it begins with no year"})
    return moment


Moment = Annotated[AwareDatetime, BeforeValidator(_written_out)]
"""A date and time with its zone, as callers give it; pydantic by itself takes UNIX seconds too."""

UNSEEN = r"\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069"
"""Control characters, and those that turn the direction of what follows: a name is shown where people trust what they
see, and PostgreSQL's texts cannot hold a NUL at all."""
ONE_LINE = rf"^[^{UNSEEN}]*$"
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=ONE_LINE)]
Id = Annotated[str, Field(max_length=40)]
"""Of an object that a body names: whether there is one is another question than whether it could be one."""
Changes = Annotated[dict[str, Any], Field(max_length=100)]
"""Fields of a body that is checked as a whole only when they are laid over another."""


class Body(Exact):
    """What a caller sends; a field that is not known is an error, not a silence."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Answer(BaseModel):
    """What a caller gets. Fields may be added in later versions: ignore what you do not know."""

    model_config = ConfigDict(from_attributes=True)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """No field is ever left out: one that has a default here is there all the same."""
        schema = handler(core)
        shown = handler.resolve_ref_schema(schema)
        shown["required"] = list(shown["properties"])
        return schema


Item = TypeVar("Item", bound=Answer)


class Page(Answer, Generic[Item]):
    """Part of a list. Ask again with `cursor=next_cursor` while `has_more`.

    A subclass for each kind gives its schema a name that a generated client can show.
    """

    object: Literal["list"] = "list"
    data: list[Item]
    has_more: bool
    next_cursor: str | None = None


PROBLEM_EXAMPLE: JsonDict = {
    "type": "/v1/problems/invalid",
    "title": "The request is not valid",
    "status": 422,
    "detail": "student.widht: there is no such field.",
    "instance": "/v1/jobs",
    "request_id": "5f2b7c0e9d3a4f6c8b1e2d3c4b5a6978",
    "errors": [
        {
            "where": "student.widht",
            "code": "request.extra_forbidden",
            "message": "there is no such field",
            "value": 2,
            "allowed": ["arch", "depth", "width"],
            "hint": "Did you mean 'width'?",
        }
    ],
}


class ProblemDocument(Answer):
    """Why a request was refused (RFC 9457). `errors` names each thing that is wrong, and what would be right."""

    model_config = ConfigDict(json_schema_extra={"examples": [PROBLEM_EXAMPLE]})

    type: str = Field(
        description="Stable name of this kind of problem; GET it to read what it means.",
        examples=["/v1/problems/invalid"],
    )
    title: str = Field(description="The kind of problem in words; always the same for a type.")
    status: int
    detail: str = Field(description="What was wrong this time.")
    instance: str = Field(description="Path of the request.")
    request_id: str = Field(description="Finds the request in the service's log.")
    errors: list[Problem]
