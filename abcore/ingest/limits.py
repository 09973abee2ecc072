"""What an upload may ask of the machine."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from abcore.progress import OutOfTime
from abcore.specs.refusals import Refusal

P = ParamSpec("P")
R = TypeVar("R")


def refuse_beyond_limits(verify: Callable[P, R]) -> Callable[P, R]:
    """Turn running into the child's limits into a refusal: the same upload would run into them again."""

    @functools.wraps(verify)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return verify(*args, **kwargs)
        except OutOfTime as error:
            raise Refusal(
                "upload.too_slow_to_read",
                "reading the upload takes more processor time than a verification may use",
                where="upload",
                hint="Send smaller images, or a smaller file: no honest one of its size takes so long.",
            ) from error
        except (MemoryError, RuntimeError) as error:
            # torch's allocator says it with a RuntimeError of its own.
            if isinstance(error, RuntimeError) and "can't allocate memory" not in str(error):
                raise
            raise Refusal(
                "upload.too_large_to_read",
                "reading the upload takes more memory than a verification may use",
                where="upload",
                hint="Send a smaller file, or let the operator raise the limit.",
            ) from error

    return guarded
