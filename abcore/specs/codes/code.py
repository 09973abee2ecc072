"""What is known of a code."""

from typing import NamedTuple


class Code(NamedTuple):
    """What a code means, what to do, and the type of the answer that a request gets which is refused for it."""

    means: str
    remedy: str
    type: str = "invalid"
