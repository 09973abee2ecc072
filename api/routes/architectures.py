"""`/v1/architectures`: which networks there are, and what one would be."""

import json
import re
from functools import cache
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body
from pydantic import Field, TypeAdapter

from abcore.specs.architectures import Architecture, ModelSpec
from abcore.specs.refusals import Refusal
from abcore.specs.reports import ModelDescription
from api.auth import Reader
from api.context import ContextDep
from api.documentation import refusals
from api.problems import Refused
from api.schemas.base import Answer, Page
from api.schemas.uploads import MODEL_EXAMPLE

_REFERENCE = re.compile(r'"#/definitions/([^"]+)"')
router = APIRouter(prefix="/v1/architectures", tags=["architectures"])


class Family(Answer):
    """A family of networks: its `arch`, and the fields that one of it takes."""

    object: Literal["architecture"] = "architecture"
    arch: str
    description: str
    fields: dict[str, Any] = Field(description="JSON Schema of each field: type, default, limits, meaning.")
    required: list[str]
    definitions: dict[str, Any] = Field(description="What `fields` refer to as `#/definitions/NAME`.")


class FamilyPage(Page[Family]):
    """The list of families."""


@cache
def _families() -> tuple[Family, ...]:
    schema = TypeAdapter(Architecture).json_schema(ref_template="#/definitions/{model}")
    definitions = schema["$defs"]
    names = {arch: ref.rsplit("/", 1)[1] for arch, ref in schema["discriminator"]["mapping"].items()}
    return tuple(_family(arch, definitions[name], definitions) for arch, name in names.items())


def _family(arch: str, described: dict[str, Any], definitions: dict[str, Any]) -> Family:
    fields = {field: schema for field, schema in described["properties"].items() if field != "arch"}
    return Family(
        arch=arch,
        description=described["description"],
        fields=fields,
        required=[field for field in described["required"] if field != "arch"],
        definitions={name: definitions[name] for name in sorted(_referred(fields, definitions))},
    )


def _referred(schema: Any, definitions: dict[str, Any]) -> set[str]:
    """The names of all definitions that a schema needs, directly or through others."""
    found: set[str] = set()
    open_ = [schema]
    while open_:
        new = set(_REFERENCE.findall(json.dumps(open_.pop()))) - found
        found |= new
        open_ += [definitions[name] for name in new]
    return found


@router.get("", operation_id="list_architectures")
def list_(_: Reader) -> FamilyPage:
    """List the families that students and teachers can be of, with the fields of each."""
    return FamilyPage(data=list(_families()), has_more=False)


@router.post(
    "/describe",
    operation_id="describe_architecture",
    responses=refusals(413, 415, 503),
)
async def describe(
    body: Annotated[ModelSpec, Body(examples=[MODEL_EXAMPLE])], context: ContextDep, _: Reader
) -> ModelDescription:
    """Parameters, multiply-accumulates, size and tap points of a network, without building it."""
    try:
        return await context.describer.describe(body)
    except Refusal as refusal:
        raise Refused(refusal.problem) from refusal
