"""`/v1/keys`: who may ask in the caller's project. Every operation needs the scope `admin`, which holds the others."""

from fastapi import APIRouter, Response

from api.auth import Admin
from api.context import ContextDep
from api.documentation import refusals
from api.paging import Cursor, Limit
from api.schemas.keys import Key, KeyCreate, KeyPage, KeyRotate, KeyWithSecret
from store import keys
from store.models import ApiKey

router = APIRouter(prefix="/v1/keys", tags=["keys"])


@router.post("", status_code=201, operation_id="create_key", responses=refusals(413, 415))
def create(body: KeyCreate, context: ContextDep, caller: Admin, response: Response) -> KeyWithSecret:
    """Make a key of the caller's project. The answer holds its secret, this once."""
    row, secret = keys.create_key(
        context.db, caller.project_id, body.name, set(body.scopes), lifetime_seconds=body.lifetime_seconds
    )
    response.headers["Location"] = f"/v1/keys/{row.id}"
    return _with_secret(row, secret)


@router.get("", operation_id="list_keys")
def list_(context: ContextDep, caller: Admin, limit: Limit = 20, cursor: Cursor = None) -> KeyPage:
    """List the project's keys, newest first, the revoked ones too."""
    page = keys.page_of_keys(context.db, caller.project_id, limit=limit, cursor=cursor)
    return KeyPage(
        data=[Key.model_validate(row) for row in page.items],
        has_more=page.next_cursor is not None,
        next_cursor=page.next_cursor,
    )


@router.get("/{key_id}", operation_id="get_key", responses=refusals(404))
def get(key_id: str, context: ContextDep, caller: Admin) -> Key:
    """Show a key that was not revoked."""
    return Key.model_validate(keys.get_key(context.db, caller.project_id, key_id))


@router.delete("/{key_id}", status_code=204, operation_id="revoke_key", responses=refusals(404, 409))
def revoke(key_id: str, context: ContextDep, caller: Admin) -> None:
    """Make a key worthless from the next request on; the list goes on to show it. The last admin's stays."""
    keys.revoke_key(context.db, caller.project_id, key_id, leave_admin=True)


@router.post("/{key_id}/rotate", operation_id="rotate_key", responses=refusals(404, 413, 415))
def rotate(key_id: str, body: KeyRotate, context: ContextDep, caller: Admin) -> KeyWithSecret:
    """Give a key a new secret; the one before opens too for as long as `grace_seconds` says."""
    row, secret = keys.rotate_key(context.db, caller.project_id, key_id, overlap_seconds=body.grace_seconds)
    return _with_secret(row, secret)


def _with_secret(row: ApiKey, secret: str) -> KeyWithSecret:
    return KeyWithSecret.model_validate(Key.model_validate(row).model_dump() | {"secret": secret})
