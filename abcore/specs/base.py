"""The base of every model that crosses a process: frozen, and closed to unknown fields."""

from pydantic import BaseModel, ConfigDict


class Spec(BaseModel):
    """A value that never changes after validation and that refuses fields it does not know.

    A misspelt field in a recipe must be an error: silently ignored, it would train another student than the one
    that was asked for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
