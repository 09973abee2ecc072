"""How often a key may ask: a bucket of tokens for each, in this process.

A bucket holds as many requests as may come at once, and fills up evenly over the window. Headers as in the IETF draft
"RateLimit header fields for HTTP" (draft-ietf-httpapi-ratelimit-headers-10).
"""

import math
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

WINDOW_SECONDS = 60
MOST_BUCKETS = 10_000


class Allowance(NamedTuple):
    """What a request found in its key's bucket. `wait_seconds` is 0 where it may go on."""

    requests: int
    remaining: int
    full_in_seconds: int
    wait_seconds: int

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The fields that tell it, as ASGI has them."""
        return [
            (b"ratelimit-policy", f'"key";q={self.requests};w={WINDOW_SECONDS}'.encode()),
            (b"ratelimit", f'"key";r={self.remaining};t={self.full_in_seconds}'.encode()),
        ]


class RateLimiter:
    """The buckets of all keys; threads may share it."""

    def __init__(self, requests: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Let each key ask `requests` times a window."""
        self._requests = requests
        self._per_second = requests / WINDOW_SECONDS
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[str, tuple[float, float]] = {}
        """By key: tokens, and when there were so many."""

    def take(self, key_id: str) -> Allowance:
        """Count a request; one that may not go on is not counted."""
        with self._lock:
            now = self._clock()
            tokens = self._level(key_id, now)
            wait = math.ceil((1 - tokens) / self._per_second) if tokens < 1 else 0
            if not wait:
                tokens -= 1
            if len(self._buckets) >= MOST_BUCKETS:
                # One that is full again says no more than one that is not there.
                self._buckets = {
                    key: held for key, held in self._buckets.items() if self._level(key, now) < self._requests
                }
            self._buckets[key_id] = (tokens, now)
        full_in = math.ceil((self._requests - tokens) / self._per_second)
        return Allowance(self._requests, int(tokens), full_in, wait)

    def _level(self, key_id: str, now: float) -> float:
        tokens, then = self._buckets.get(key_id, (float(self._requests), now))
        return min(float(self._requests), tokens + (now - then) * self._per_second)
