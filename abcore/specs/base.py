"""The base of every model that crosses a process: frozen, and closed to unknown fields."""

from typing import Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticKnownError, core_schema


class _Number:
    """Refuses what is no number, by pydantic's own error."""

    def __init__(self, error: str) -> None:
        self._error = error

    def __call__(self, value: Any) -> Any:
        if isinstance(value, bool | str):
            raise PydanticKnownError(self._error)  # type: ignore[arg-type]
        return value


_NUMBERS = {"int": _Number("int_type"), "float": _Number("float_type")}


def _exact(schema: Any) -> Any:
    """The schema with every number in it closed to texts and truth values, and every truth value to all else."""
    match schema:
        case {"type": "int" | "float" as kind}:
            return core_schema.no_info_before_validator_function(_NUMBERS[kind], schema)
        case {"type": "bool"}:
            return schema | {"strict": True}
        case {"type": "model"} | {"type": "function-before", "function": {"function": _Number()}}:
            return schema  # has been through this by itself
        case dict():
            return {name: _exact(part) for name, part in schema.items()}
        case list() | tuple():
            return type(schema)(_exact(part) for part in schema)
        case _:
            return schema


class Exact(BaseModel):
    """Takes numbers for numbers and truth values for truth values: pydantic by itself takes `"3"` and `true` for them.

    JSON knows the difference, the schema that callers are shown says it, and who sends `true` for a width is mistaken.
    """

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """As pydantic makes it, made exact below the model itself."""
        schema = handler(source)
        inner: Any = handler.resolve_ref_schema(schema)
        while inner["type"] != "model":
            inner = inner["schema"]
        inner["schema"] = _exact(inner["schema"])
        return schema


class Spec(Exact):
    """A value that never changes after validation and that refuses fields it does not know.

    A misspelt field in a recipe must be an error: silently ignored, it would train another student than the one
    that was asked for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
