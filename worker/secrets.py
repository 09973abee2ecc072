"""What must never be shown of what a child writes.

A child is given no key and no address. It runs as the same user as its worker, though, so this is the net beneath: what
of them is written into a log, by whatever accident, is not shown.
"""

import os
import re

MASK = b"[masked]"
SHORTEST = 8
"""What is shorter is no secret, and may well be a word of the log."""

_NAMES = re.compile(r"KEY|SECRET|TOKEN|PASSWORD", re.IGNORECASE)
_PASSWORD = re.compile(r"://[^/@\s:]*:([^@\s]+)@")
_KINDS = rb"(?:abd_|whsec_)[A-Za-z0-9+/=_-]{16,}|(?<=://)[^/@\s:]*:[^/@\s]+(?=@)"


def masked(content: bytes) -> bytes:
    """Replace API keys, webhook secrets, passwords in addresses, and this process's own secrets."""
    own = sorted((re.escape(secret.encode()) for secret in _own()), key=len, reverse=True)
    return re.sub(b"|".join([*own, _KINDS]), MASK, content)


def _own() -> set[str]:
    """Secrets in this process's environment: by their names, and passwords of addresses."""
    named = {value for name, value in os.environ.items() if _NAMES.search(name)}
    passwords = {password for value in os.environ.values() for password in _PASSWORD.findall(value)}
    return {secret for secret in named | passwords if len(secret) >= SHORTEST}
