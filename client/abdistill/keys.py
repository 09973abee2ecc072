"""`/v1/keys`: who may ask in the key's project. All of it needs a key with the scope `admin`."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from abdistill.models import Page
from abdistill.paging import every
from abdistill.reports import Answer
from abdistill.transport import Transport

_PATH = "/v1/keys"


class Key(Answer):
    """Who may ask, and for what. `secret` is there only where the service has just made it."""

    id: str
    name: str
    scopes: tuple[str, ...]
    hint: str
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None
    previous_until: datetime | None = None
    secret: str | None = None


class Keys:
    """`client.keys`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, name: str, scopes: Sequence[str], *, lifetime_seconds: int | None = None) -> Key:
        """Make a key with scopes of `read`, `submit`, `admin`; the answer's `secret` is shown this once.

        Without a lifetime it never expires.
        """
        body = {"name": name, "scopes": list(scopes), "lifetime_seconds": lifetime_seconds}
        return self._key("POST", _PATH, body)

    def get(self, key_id: str) -> Key:
        """One that was not revoked. Raises NotFound."""
        return self._key("GET", f"{_PATH}/{key_id}")

    def list(self, *, limit: int = 20, cursor: str | None = None) -> Page[Key]:
        """One page, newest first, the revoked ones too."""
        params = {"limit": limit} | ({"cursor": cursor} if cursor else {})
        return Page[Key].model_validate_json(self._transport.request("GET", _PATH, params=params).content)

    def __iter__(self) -> Iterator[Key]:
        """All, newest first, page by page."""
        return every(lambda cursor: self.list(limit=100, cursor=cursor))

    def revoke(self, key_id: str) -> None:
        """Make one worthless from the next request on. Raises NotFound; Conflict for the last with `admin`."""
        self._transport.request("DELETE", f"{_PATH}/{key_id}")

    def rotate(self, key_id: str, *, grace_seconds: int = 0) -> Key:
        """Give one a new `secret`; the one before opens too for so long."""
        return self._key("POST", f"{_PATH}/{key_id}/rotate", {"grace_seconds": grace_seconds})

    def _key(self, method: str, path: str, body: dict[str, Any] | None = None) -> Key:
        return Key.model_validate_json(self._transport.request(method, path, json=body).content)
