"""`/v1/audit`: who did what in the caller's project."""

from typing import Annotated

from fastapi import APIRouter, Query

from api.auth import Admin
from api.context import ContextDep
from api.paging import Cursor, Limit
from api.schemas.audit import AuditEntry, AuditPage
from api.schemas.base import Moment
from store import audit

router = APIRouter(prefix="/v1/audit", tags=["keys"])


@router.get("", operation_id="list_audit")
def list_(
    context: ContextDep,
    caller: Admin,
    key: Annotated[str | None, Query(max_length=40, description="Id of a key.")] = None,
    operation: Annotated[str | None, Query(max_length=64, description="An `operationId`.")] = None,
    object_: Annotated[
        str | None, Query(alias="object", max_length=64, description="Id of an object.")
    ] = None,
    time_from: Annotated[Moment | None, Query(description="At this moment or later.")] = None,
    time_before: Moment | None = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> AuditPage:
    """List requests that asked for a change, and those refused with 403, newest first; there within seconds."""
    wanted = audit.AuditFilter(
        key_id=key,
        operation=operation,
        object_id=object_,
        time_from=None if time_from is None else time_from.timestamp(),
        time_before=None if time_before is None else time_before.timestamp(),
    )
    page = audit.list_entries(context.db, caller.project_id, wanted, limit=limit, cursor=cursor)
    return AuditPage(
        data=[AuditEntry.model_validate(row) for row in page.items],
        has_more=page.next_cursor is not None,
        next_cursor=page.next_cursor,
    )
