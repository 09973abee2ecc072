"""`/v1/audit`: who did what in the key's project. Needs a key with the scope `admin`."""

from collections.abc import Iterator
from datetime import datetime

from abdistill.models import Page
from abdistill.paging import every
from abdistill.reports import Answer
from abdistill.transport import Transport


class AuditEntry(Answer):
    """A request that asked for a change, or was refused for its key's scopes."""

    id: str
    time: datetime
    key_id: str | None = None
    key_name: str | None = None
    operation: str
    object_id: str | None = None
    status: int
    address: str | None = None
    request_id: str


class Audit:
    """`client.audit`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        key: str | None = None,
        operation: str | None = None,
        object: str | None = None,
        time_from: datetime | None = None,
        time_before: datetime | None = None,
        limit: int = 20,
        cursor: str | None = None,
    ) -> Page[AuditEntry]:
        """One page, newest first: of one key, operation (`create_job`) or object, or of some time (with a zone)."""
        params = {
            "key": key,
            "operation": operation,
            "object": object,
            "time_from": time_from and time_from.isoformat(),
            "time_before": time_before and time_before.isoformat(),
            "limit": limit,
            "cursor": cursor,
        }
        given = {name: value for name, value in params.items() if value is not None}
        content = self._transport.request("GET", "/v1/audit", params=given).content
        return Page[AuditEntry].model_validate_json(content)

    def __iter__(self) -> Iterator[AuditEntry]:
        """All, newest first, page by page."""
        return every(lambda cursor: self.list(limit=100, cursor=cursor))
