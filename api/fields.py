"""What a body may have at a place, for the suggestion where something else was sent."""

from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

_TAGS = ("arch", "name", "type")  # the fields by which the branches of the specs' unions are told apart


def fields_at(model: Any, loc: Sequence[Any], body: Any) -> list[str]:
    """The fields that the model has at this place of the body; of a union, those of the branch that was meant."""
    return sorted({name for m in _models_at(model, loc, body) for name in m.model_fields})


def tags_at(model: Any, loc: Sequence[Any], body: Any, tag: str) -> list[str]:
    """The values of the field by which the branches of a union at this place are told apart."""
    annotations = [
        m.model_fields[tag].annotation for m in _models_at(model, loc, body) if tag in m.model_fields
    ]
    return sorted({value for annotation in annotations for value in get_args(annotation)})


def _models_at(model: Any, loc: Sequence[Any], body: Any) -> list[type[BaseModel]]:
    candidates = _models(model)
    here = body
    for part in loc:
        if isinstance(part, int) and isinstance(here, list):
            here = here[part]
        elif isinstance(here, dict) and part in here:
            here = here[part]
            deeper = [m.model_fields[part].annotation for m in candidates if part in m.model_fields]
            candidates = [found for annotation in deeper for found in _models(annotation)]
        else:
            continue  # the name of a union's branch, which is not in the body
    if isinstance(here, dict):
        candidates = [m for m in candidates if _could_be(m, here)] or candidates
    return candidates


def _could_be(model: type[BaseModel], given: Mapping[str, Any]) -> bool:
    """Whether the tags that were given are those of this branch."""
    annotations = {name: field.annotation for name, field in model.model_fields.items() if name in _TAGS}
    return all(
        given[name] in get_args(annotation)
        for name, annotation in annotations.items()
        if name in given and get_origin(annotation) is Literal
    )


def _models(annotation: Any) -> list[type[BaseModel]]:
    """All models in an annotation: alone, in a union, or as items of a tuple or list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, UnionType, Annotated, tuple, list):
        return [found for part in get_args(annotation) for found in _models(part)]
    return []
