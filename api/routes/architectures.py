"""`/v1/architectures`: which networks there are, and what one would be."""

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import Field, TypeAdapter

from abcore.specs.architectures import Architecture, ModelSpec
from abcore.specs.refusals import Refusal
from abcore.specs.reports import ModelDescription
from api.auth import Reader
from api.context import ContextDep
from api.problems import invalid
from api.schemas.common import Answer, Page
from api.schemas.uploads import MODEL_EXAMPLE

router = APIRouter(prefix="/v1/architectures", tags=["architectures"])


class Family(Answer):
    """A family of networks: its `arch`, and the fields that one of it takes."""

    object: Literal["architecture"] = "architecture"
    arch: str
    description: str
    fields: dict[str, Any] = Field(description="JSON Schema of each field: type, default, limits, meaning.")
    required: list[str]


def _families() -> list[Family]:
    schema = TypeAdapter(Architecture).json_schema()
    names = {arch: ref.rsplit("/", 1)[1] for arch, ref in schema["discriminator"]["mapping"].items()}
    return [
        Family(
            arch=arch,
            description=schema["$defs"][name]["description"],
            fields={
                field: described
                for field, described in schema["$defs"][name]["properties"].items()
                if field != "arch"
            },
            required=[field for field in schema["$defs"][name].get("required", []) if field != "arch"],
        )
        for arch, name in names.items()
    ]


@router.get("", operation_id="list_architectures")
def list_(_: Reader) -> Page[Family]:
    """List the families that students and teachers can be of, with the fields of each."""
    return Page(data=_families(), has_more=False)


@router.post(
    "/describe",
    operation_id="describe_architecture",
    openapi_extra={"requestBody": {"content": {"application/json": {"example": MODEL_EXAMPLE}}}},
)
def describe(body: ModelSpec, context: ContextDep, _: Reader) -> ModelDescription:
    """Parameters, multiply-accumulates, size and tap points of a network, without building it."""
    try:
        return context.describer.describe(body)
    except Refusal as refusal:
        raise invalid(refusal.problem) from refusal
