"""Why something cannot be done, told so that its user can mend it."""

from typing import Any

from pydantic import model_validator

from abcore.specs.base import Spec
from abcore.specs.codes import CODES


class Problem(Spec):
    """One thing that is wrong: where, what, and what would be right.

    `code` is stable and machine-readable (`taps.not_found`), one of `abcore.specs.codes.CODES`; `where` is a path into
    what the user sent (`student.depth`, `archive:train/cat/3.png`, `checkpoint:conv1.weight`); `allowed` lists what
    would have been accepted, as far as it can be listed; `hint` says what to do, and is the code's own where none is
    given.
    """

    code: str
    message: str
    where: str | None = None
    value: Any = None
    allowed: tuple[str, ...] = ()
    hint: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _hint_of_the_code(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and fields.get("hint") is None and fields.get("code") in CODES:
            return {**fields, "hint": CODES[fields["code"]].remedy}
        return fields


class Refusal(Exception):
    """The request, upload or spec itself is wrong: trying again unchanged cannot help.

    A run that raises it is not retried. Everything else that escapes a run is a crash, and is.
    """

    def __init__(self, code: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.problem = Problem(code=code, message=message, **details)

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception's own would call the class with the message alone: a refusal must come out of a process pool whole.
        return _restore, (self.problem,)


def _restore(problem: Problem) -> Refusal:
    return Refusal(**problem.model_dump())
