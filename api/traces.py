"""W3C Trace Context (https://www.w3.org/TR/trace-context): a request of somebody's trace is found by it."""

import os
import re
from typing import NamedTuple

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


class Trace(NamedTuple):
    """The trace that a request belongs to, and this service's place in it."""

    trace_id: str
    span_id: str
    flags: str

    @property
    def traceresponse(self) -> str:
        """The header that tells the caller under which span his request was answered (Trace Context, level 2)."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


def trace_of(traceparent: str) -> Trace | None:
    """Read the header; None where it is missing, or is none by the specification, and so must be passed over."""
    found = _TRACEPARENT.fullmatch(traceparent)
    if found is None:
        return None
    version, trace_id, parent_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or not int(trace_id, 16) or not int(parent_id, 16):
        return None
    return Trace(trace_id, os.urandom(8).hex(), flags if version == "00" else f"{int(flags, 16) & 1:02x}")
