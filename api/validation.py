"""pydantic's errors, told in the caller's terms: the field, the value, what is allowed."""

import difflib
import re
from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel

from abcore.specs.refusals import Problem

_QUOTED = re.compile(r"'([^']*)'")
_LIMITS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "min_length": "length >=", "max_length": "length <="}
_MOST_VALUE_CHARACTERS = 200


def problems_of(error: RequestValidationError, request: Request) -> list[Problem]:
    """One problem for each thing that is wrong with a request."""
    return [_problem(one, error.body, request) for one in error.errors()]


def _problem(one: Mapping[str, Any], body: Any, request: Request) -> Problem:
    source, *loc = one["loc"]
    in_body = source == "body"
    where = ".".join(_path(loc, body, one["type"]) if in_body else [str(source), *map(str, loc)])
    allowed, hint = _allowed(one), None
    if one["type"] == "extra_forbidden" and in_body:
        fields = _fields_at(_body_model(request), loc[:-1], body)
        near = difflib.get_close_matches(str(loc[-1]), fields, n=1)
        allowed = tuple(fields)
        hint = (
            f"Did you mean {near[0]!r}?" if near else "Remove it; fields that are not known are not ignored."
        )
    return Problem(
        code=f"request.{one['type']}",
        message=_message(one),
        where=where or "body",
        value=_short(one.get("input")) if one["type"] != "missing" else None,
        allowed=allowed,
        hint=hint,
    )


def _message(one: Mapping[str, Any]) -> str:
    match one["type"]:
        case "extra_forbidden":
            return "there is no such field"
        case "missing":
            return "this field is required"
        case "json_invalid":
            return f"the body is not JSON: {one['ctx']['error']}"
        case _:
            message = str(one["msg"]).removeprefix("Value error, ")
            return message[:1].lower() + message[1:]


def _allowed(one: Mapping[str, Any]) -> tuple[str, ...]:
    context = one.get("ctx", {})
    expected = context.get("expected_tags") or (
        context.get("expected") if one["type"] == "literal_error" else None
    )
    if expected:
        return tuple(_QUOTED.findall(str(expected))) or (str(expected),)
    if "pattern" in context:
        return (str(context["pattern"]),)
    return tuple(f"{sign} {context[name]}" for name, sign in _LIMITS.items() if name in context)


def _path(loc: Sequence[Any], body: Any, kind: str) -> list[str]:
    """The place as the caller wrote it: pydantic also names the branch of a union that it took, which nobody sent."""
    path: list[str] = []
    here = body
    for place, part in enumerate(loc):
        last = place == len(loc) - 1
        if isinstance(here, dict) and part in here:
            here = here[part]
        elif isinstance(here, list) and isinstance(part, int):
            here = here[part] if part < len(here) else None
        elif not (last and kind in ("missing", "extra_forbidden")) and isinstance(here, dict):
            continue
        path.append(str(part))
    return path


def _short(value: Any) -> Any:
    if isinstance(value, bool | int | float | NoneType):
        return value
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _MOST_VALUE_CHARACTERS else text[:_MOST_VALUE_CHARACTERS] + "…"


def _body_model(request: Request) -> Any:
    route = request.scope.get("route")
    if isinstance(route, APIRoute) and route.body_field is not None:
        return route.body_field.field_info.annotation
    return None


def _fields_at(model: Any, loc: Sequence[Any], body: Any) -> list[str]:
    """The fields that the model has at this place of the body."""
    candidates = _models(model)
    here = body
    for part in loc:
        if isinstance(here, dict) and part not in here:
            continue  # the name of a union's branch
        deeper = [m.model_fields[part].annotation for m in candidates if part in m.model_fields]
        candidates = [found for annotation in deeper for found in _models(annotation)]
        here = here[part] if isinstance(here, dict) else here
    if isinstance(here, dict):
        candidates = [m for m in candidates if _could_be(m, here)] or candidates
    return sorted({name for m in candidates for name in m.model_fields})


def _could_be(model: type[BaseModel], given: Mapping[str, Any]) -> bool:
    """Whether the tags that were given (`arch`, `name`) are those of this branch."""
    tags = {name: get_args(field.annotation) for name, field in model.model_fields.items()}
    return all(
        given[name] in values
        for name, values in tags.items()
        if values and name in ("arch",) and name in given
    )


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, UnionType, Annotated):
        return [found for part in get_args(annotation) for found in _models(part)]
    return []
