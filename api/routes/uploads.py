"""`/v1/uploads`: content of any size, in parts, sent once however often the connection breaks."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from api import parts
from api.auth import Reader, Submitter
from api.context import ContextDep
from api.documentation import UPLOAD, refusals
from api.paging import Cursor, Limit
from api.schemas.part_uploads import (
    UploadComplete,
    UploadCreate,
    UploadInParts,
    UploadInPartsPage,
    UploadPart,
    UploadPartList,
)
from store import part_uploads
from store.errors import NotFound

router = APIRouter(tags=["uploads"])
Number = Annotated[int, Path(ge=1, le=1000, description="Of the part; the first one is 1.")]
Sha256 = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="Of the whole content, in hex.")]


@router.post(
    "/v1/uploads",
    status_code=201,
    operation_id="create_upload",
    responses=refusals(413, 415, 507)
    | {200: {"model": UploadInParts, "description": "One of this content is there: go on with it"}},
)
def create(body: UploadCreate, context: ContextDep, caller: Submitter, response: Response) -> UploadInParts:
    """Announce a file that comes in parts; `PUT .../parts/{number}` each of them, in any order, then complete it.

    With its sha256 this is safe to repeat: an upload of that content is answered with 200, and if it is `complete`
    there is nothing left to send.
    """
    upload, new = part_uploads.create(
        context.db,
        caller.project_id,
        size_bytes=body.size_bytes,
        part_bytes=parts.part_bytes_of(body, context.settings),
        sha256=body.sha256,
        keep_seconds=context.settings.upload_keep_seconds,
    )
    response.status_code = 201 if new else 200
    response.headers["Location"] = f"/v1/uploads/{upload.id}"
    return UploadInParts.model_validate(upload)


@router.get("/v1/uploads", operation_id="list_uploads")
def list_(context: ContextDep, caller: Reader, limit: Limit = 20, cursor: Cursor = None) -> UploadInPartsPage:
    """List uploads in parts, newest first."""
    page = part_uploads.list_(context.db, caller.project_id, limit=limit, cursor=cursor)
    return UploadInPartsPage(
        data=[UploadInParts.model_validate(row) for row in page.items],
        has_more=page.next_cursor is not None,
        next_cursor=page.next_cursor,
    )


@router.get("/v1/uploads/{upload_id}", operation_id="get_upload", responses=refusals(404))
def get(upload_id: str, context: ContextDep, caller: Reader) -> UploadInParts:
    """Show an upload in parts."""
    return UploadInParts.model_validate(part_uploads.get(context.db, caller.project_id, upload_id))


@router.get("/v1/uploads/{upload_id}/parts", operation_id="list_upload_parts", responses=refusals(404))
def list_parts(upload_id: str, context: ContextDep, caller: Reader) -> UploadPartList:
    """List the parts that have arrived, by number: what is not here is to be sent."""
    part_uploads.get(context.db, caller.project_id, upload_id)
    rows = part_uploads.parts(context.db, upload_id)
    return UploadPartList(data=[UploadPart.model_validate(row) for row in rows], has_more=False)


@router.put(
    "/v1/uploads/{upload_id}/parts/{number}",
    operation_id="upload_part",
    responses=refusals(400, 404, 408, 409, 411, 413, 503, 507),
    openapi_extra=UPLOAD,
)
async def put_part(
    upload_id: str, number: Number, request: Request, context: ContextDep, caller: Submitter
) -> UploadPart:
    """Send a part as the raw body. The same content may be sent again; other content replaces it.

    With `Content-Digest` (or `X-Content-SHA256`) the service checks that it got what was sent, and does not read
    what it has.
    """
    part = await parts.receive_part(request, context, caller.project_id, upload_id, number)
    return UploadPart.model_validate(part)


@router.post(
    "/v1/uploads/{upload_id}/complete",
    operation_id="complete_upload",
    responses=refusals(404, 409, 410, 413, 415, 503),
)
def complete(upload_id: str, body: UploadComplete, context: ContextDep, caller: Submitter) -> UploadInParts:
    """Have the whole checked, once all parts are there; then teachers and datasets can be made of it.

    All of it is read for that: some seconds for each GB.
    """
    return UploadInParts.model_validate(parts.complete(context, caller.project_id, upload_id, body.sha256))


@router.delete(
    "/v1/uploads/{upload_id}", status_code=204, operation_id="delete_upload", responses=refusals(404, 409)
)
def delete(upload_id: str, context: ContextDep, caller: Submitter) -> None:
    """Abort an upload, or remove a complete one. What was made of it and verified stays."""
    for key in part_uploads.remove(context.db, caller.project_id, upload_id):
        context.blobs.delete(key)


@router.head("/v1/blobs/{sha256}", operation_id="head_blob", include_in_schema=False)
@router.get("/v1/blobs/{sha256}", operation_id="find_blob", responses=refusals(404))
def find_blob(sha256: Sha256, context: ContextDep, caller: Reader, response: Response) -> UploadInParts:
    """Whether content with this sha256 is here already, and in which complete upload of the project. HEAD will do."""
    upload = part_uploads.find_content(context.db, caller.project_id, sha256)
    if upload is None:
        raise NotFound("content with sha256", sha256)
    response.headers["Content-Location"] = f"/v1/uploads/{upload.id}"
    return UploadInParts.model_validate(upload)
