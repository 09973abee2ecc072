"""pydantic's errors, told in the caller's terms: the field, the value, what is allowed."""

import difflib
import math
import re
from collections.abc import Collection, Mapping, Sequence
from types import NoneType
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

from abcore.specs.codes import CODES
from abcore.specs.refusals import Problem
from api.fields import fields_at, tags_at

_QUOTED = re.compile(r"'([^']*)'")
# What the types of pydantic's errors want, as JSON calls it.
_WANTED = {
    "bool_type": ("true", "false"),
    "dict_type": ("object",),
    "float_type": ("number",),
    "int_from_float": ("integer",),
    "int_type": ("integer",),
    "list_type": ("array",),
    "model_attributes_type": ("object",),
    "model_type": ("object",),
    "string_type": ("string",),
    "tuple_type": ("array",),
}
_LIMITS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "min_length": "length >=", "max_length": "length <="}
_MOST_VALUE_CHARACTERS = 200
MOST_PROBLEMS = 100
"""Told of one request. A body of a megabyte can have a hundred thousand, and nobody reads on so far."""


def problems_of(error: RequestValidationError, request: Request) -> list[Problem]:
    """One problem for each thing that is wrong with a request, up to `MOST_PROBLEMS`."""
    found = error.errors()[:MOST_PROBLEMS]
    model, queries = _body_model(request), _query_names(request)
    return [_problem(one, error.body, model, queries) for one in found if not _follows(one, found)]


def problems_in(error: ValidationError, body: Any, model: type[BaseModel]) -> list[Problem]:
    """One problem for each thing that is wrong with a body that a route put together itself, up to `MOST_PROBLEMS`."""
    found: list[Any] = [{**one, "loc": ("body", *one["loc"])} for one in error.errors()[:MOST_PROBLEMS]]
    return [_problem(one, body, model, ()) for one in found if not _follows(one, found)]


async def refuse_unknown_queries(request: Request) -> None:
    """A query parameter that is misspelt would be ignored, and the answer be one to another question.

    Raises:
        RequestValidationError: as for a field of a body that is not known.
    """
    known = _query_names(request)
    unknown = [name for name in request.query_params if name not in known]
    if unknown:
        raise RequestValidationError(
            [
                {"type": "extra_forbidden", "loc": ("query", name), "input": request.query_params[name]}
                for name in unknown
            ]
        )


def _problem(one: Mapping[str, Any], body: Any, model: Any, queries: tuple[str, ...]) -> Problem:
    kind = one["type"]
    source, *loc = one["loc"]
    # Of a parameter that may be repeated, pydantic's location also counts which; the caller knows it by its name.
    path = _path(loc, body, kind) if source == "body" else [str(source), *map(str, loc[:1])]
    value = one.get("input")
    allowed, hint = _allowed(one), None
    match kind:
        case "extra_forbidden":
            allowed = tuple(fields_at(model, loc[:-1], body)) if source == "body" else queries
            hint = _near(path[-1], allowed) or "Remove it; what is not known is not ignored."
        case "union_tag_invalid" | "union_tag_not_found":
            tag = _QUOTED.findall(one["ctx"]["discriminator"])[0]
            path.append(tag)
            value = value.get(tag) if isinstance(value, dict) else None
            allowed = allowed or tuple(tags_at(model, loc, body, tag))
            hint = _near(value, allowed)
        case "missing" | "json_invalid":
            value = None
        case _:
            hint = _near(value, allowed)
    return Problem(
        code=f"request.{kind}" if f"request.{kind}" in CODES else "request.invalid",
        message=_message(one),
        where=".".join(path) or "body",
        value=_short(value),
        allowed=allowed,
        hint=hint,
    )


def _follows(one: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a list is called too short only because pydantic had left out its items that are wrong themselves."""
    loc = one["loc"]
    return one["type"] == "too_short" and any(
        len(other["loc"]) > len(loc) and other["loc"][: len(loc)] == loc for other in found
    )


def _message(one: Mapping[str, Any]) -> str:
    match one["type"]:
        case "extra_forbidden" if one["loc"][0] == "query":
            return "there is no such query parameter"
        case "extra_forbidden":
            return "there is no such field"
        case "missing" | "union_tag_not_found":
            return "this field is required"
        case "union_tag_invalid":
            return "no kind has this tag"
        case "json_invalid":
            return f"the body is not JSON: {one['ctx']['error']} (at character {one['loc'][-1]})"
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
    if one["type"] in _WANTED:
        return _WANTED[one["type"]]
    limits = {sign: context[name] for name, sign in _LIMITS.items() if name in context}
    return tuple(f"{sign} {int(limit) if limit == int(limit) else limit}" for sign, limit in limits.items())


def _near(value: Any, names: Collection[str]) -> str | None:
    near = difflib.get_close_matches(value, names, n=1) if isinstance(value, str) else []
    return f"Did you mean {near[0]!r}?" if near else None


def _path(loc: Sequence[Any], body: Any, kind: str) -> list[str]:
    """The place as the caller wrote it: pydantic also names the branch of a union that it took, which nobody sent."""
    if kind == "json_invalid":
        return []
    path: list[str] = []
    here = body
    for place, part in enumerate(loc):
        last = place == len(loc) - 1
        if isinstance(here, dict) and part in here:
            here = here[part]
        elif isinstance(here, list) and isinstance(part, int):
            here = here[part] if part < len(here) else None
        elif not isinstance(here, dict | list) and path:
            break  # below what is no container there are names of branches only
        elif isinstance(here, list):
            continue  # the branch is called like the field that was taken for it
        elif not (last and kind in ("missing", "extra_forbidden")) and isinstance(here, dict):
            continue
        path.append(str(part))
    return path


def _short(value: Any) -> Any:
    if isinstance(value, bool | int | NoneType) or (isinstance(value, float) and math.isfinite(value)):
        return value
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _MOST_VALUE_CHARACTERS else text[:_MOST_VALUE_CHARACTERS] + "…"


def _body_model(request: Request) -> Any:
    route = request.scope.get("route")
    if isinstance(route, APIRoute) and route.body_field is not None:
        return route.body_field.field_info.annotation
    return None


def _query_names(request: Request) -> tuple[str, ...]:
    route = request.scope.get("route")
    return tuple(field.alias for field in route.dependant.query_params) if isinstance(route, APIRoute) else ()
