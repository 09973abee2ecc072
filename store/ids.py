"""Ids say their kind and sort by time of creation: `job_01J...`."""

from typing import Literal

from ulid import ULID

Prefix = Literal[
    "ans", "art", "aud", "dlv", "dst", "evt", "job", "key", "prj", "prt", "swp", "tch", "up", "whk", "wrk"
]


def new_id(prefix: Prefix) -> str:
    """Return a fresh id: the prefix, an underscore, and a ULID (48 bits of time, 80 random ones)."""
    return f"{prefix}_{ULID()}"
