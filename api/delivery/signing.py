"""The headers of a webhook by the Standard Webhooks specification 1.0.0, symmetric scheme `v1`."""

import base64
import hashlib
import hmac

from store.deliveries import Claimed
from store.webhooks import PREFIX


def signed_headers(claimed: Claimed) -> dict[str, str]:
    """Return id, time of the attempt, and a signature by each secret that is valid now, the newest first."""
    timestamp = int(claimed.now)
    signatures = (sign(secret, claimed.event_id, timestamp, claimed.body) for secret in claimed.secrets)
    return {
        "webhook-id": claimed.event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signatures),
    }


def sign(secret: str, event_id: str, timestamp: int, body: str) -> str:
    """Return `v1,` and the base64 of the HMAC-SHA256 of `id.timestamp.body`; `timestamp` in UNIX seconds."""
    key = base64.b64decode(secret.removeprefix(PREFIX))
    digest = hmac.new(key, f"{event_id}.{timestamp}.{body}".encode(), hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"
