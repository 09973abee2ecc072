"""`/v1/usage`: what a project has of what it may have."""

from fastapi import APIRouter

from api.auth import Reader
from api.context import ContextDep
from api.schemas.usage import Usage
from store import quotas

router = APIRouter(prefix="/v1/usage", tags=["usage"])


@router.get("", operation_id="get_usage")
def get(context: ContextDep, caller: Reader) -> Usage:
    """Show what the key's project has of everything that an operator can limit.

    A project that has as much as it may is refused with 429 (jobs that wait) or 507 (bytes); of running jobs none is
    refused: the next one waits, and says so.
    """
    return Usage.of(caller.project_id, quotas.usage(context.db, caller.project_id))
