"""`/v1/problems`: what the problem documents of this service mean. A document's `type` leads here."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path
from pydantic import Field

from abcore.specs.codes import CODES
from api.documentation import refusals
from api.problem_types import TYPES, codes_of, uri
from api.schemas.base import Answer, Page
from store.errors import NotFound

router = APIRouter(prefix="/v1/problems", tags=["problems"])


class ProblemCode(Answer):
    """What one `code` of a problem document's `errors` means, and what to do about it."""

    code: str
    means: str
    remedy: str


class ProblemType(Answer):
    """A type of problem document, with the codes that documents of this type have."""

    object: Literal["problem_type"] = "problem_type"
    name: str
    type: str = Field(description="As in the problem document.")
    status: int
    title: str
    means: str
    codes: list[ProblemCode]

    @classmethod
    def of(cls, name: str) -> "ProblemType":
        """Show a type by its name."""
        codes = [
            ProblemCode(code=code, means=CODES[code].means, remedy=CODES[code].remedy)
            for code in codes_of(name)
        ]
        return cls(name=name, type=uri(name), codes=codes, **TYPES[name]._asdict())


class ProblemTypePage(Page[ProblemType]):
    """The list of types of problem documents."""


@router.get("", operation_id="list_problem_types")
def list_() -> ProblemTypePage:
    """List all types of problem documents with all codes."""
    return ProblemTypePage(data=[ProblemType.of(name) for name in TYPES], has_more=False)


@router.get("/{name}", operation_id="get_problem_type", responses=refusals(404))
def get(name: Annotated[str, Path(examples=["invalid"])]) -> ProblemType:
    """Tell what a type of problem document means. `type` of a document is this operation's path."""
    if name not in TYPES:
        raise NotFound("problem type", name)
    return ProblemType.of(name)
