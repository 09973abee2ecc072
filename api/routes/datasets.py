"""`/v1/datasets`: labelled images."""

from fastapi import APIRouter, Request, Response

from api.auth import Reader, Submitter
from api.context import ContextDep
from api.documentation import UPLOAD, refusals
from api.downloads import RESPONSES, send_artifact
from api.paging import Cursor, Limit
from api.schemas.part_uploads import ContentChoice
from api.schemas.uploads import Dataset, DatasetCreate, DatasetPage
from api.uploads import attach_choice, receive_content
from store import datasets
from store.errors import NotFound, NotReady

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])


@router.post("", status_code=201, operation_id="create_dataset", responses=refusals(413, 415))
def create(body: DatasetCreate, context: ContextDep, caller: Submitter, response: Response) -> Dataset:
    """Announce a dataset; its archive follows by `PUT /v1/datasets/{id}/content`."""
    row = datasets.create(
        context.db,
        caller.project_id,
        name=body.name,
        filename=body.filename,
        image_size=body.image_size,
        holdout_fraction=body.holdout_fraction,
    )
    response.headers["Location"] = f"/v1/datasets/{row.id}"
    return Dataset.model_validate(row)


@router.get("", operation_id="list_datasets")
def list_(
    context: ContextDep,
    caller: Reader,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> DatasetPage:
    """List datasets, newest first."""
    page = datasets.list_(context.db, caller.project_id, limit=limit, cursor=cursor)
    return DatasetPage(
        data=[Dataset.model_validate(row) for row in page.items],
        has_more=page.next_cursor is not None,
        next_cursor=page.next_cursor,
    )


@router.get("/{dataset_id}", operation_id="get_dataset", responses=refusals(404))
def get(dataset_id: str, context: ContextDep, caller: Reader) -> Dataset:
    """Show a dataset: `ready` with a report, or `invalid` with its problems."""
    return Dataset.model_validate(datasets.get(context.db, caller.project_id, dataset_id))


@router.head("/{dataset_id}/samples", operation_id="head_dataset_samples", include_in_schema=False)
@router.get(
    "/{dataset_id}/samples",
    operation_id="download_dataset_samples",
    response_class=Response,
    responses=RESPONSES
    | refusals(409)
    | {200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}},
)
def samples(dataset_id: str, request: Request, context: ContextDep, caller: Reader) -> Response:
    """Download a sheet of training images, a PNG; `report.samples` says where which class is."""
    sheet = datasets.samples(context.db, caller.project_id, dataset_id)
    return send_artifact(request, context, sheet)


@router.put(
    "/{dataset_id}/content",
    status_code=202,
    operation_id="upload_dataset",
    responses=refusals(400, 404, 408, 409, 411, 413, 507),
    openapi_extra=UPLOAD,
)
async def upload(dataset_id: str, request: Request, context: ContextDep, caller: Submitter) -> Dataset:
    """Send the file as the raw body: an archive of class folders, WebDataset, .npz, idx files, or parquet.

    With `Content-Digest` (or `X-Content-SHA256`) the service checks that it got what was sent. The same content may be
    sent again.
    """
    row = await receive_content(request, context, caller.project_id, datasets, dataset_id)
    return Dataset.model_validate(row)


@router.post(
    "/{dataset_id}/content",
    status_code=202,
    operation_id="choose_dataset_content",
    responses=refusals(404, 409, 413, 415, 507),
)
def choose_content(
    dataset_id: str, body: ContentChoice, context: ContextDep, caller: Submitter, response: Response
) -> Dataset:
    """Take a complete upload in parts (`/v1/uploads`) as the content, or import it. Verification begins by itself."""
    row = attach_choice(context, caller.project_id, datasets, dataset_id, body)
    response.headers["Location"] = f"/v1/datasets/{row.id}"
    return Dataset.model_validate(row)


@router.delete("/{dataset_id}", status_code=204, operation_id="delete_dataset", responses=refusals(404, 409))
def delete(dataset_id: str, context: ContextDep, caller: Submitter) -> None:
    """Delete a dataset and its files. Refused while a job that has not ended needs it."""
    try:
        keys = [datasets.samples(context.db, caller.project_id, dataset_id).blob_key]
    except (NotFound, NotReady):
        keys = []
    row = datasets.delete(context.db, caller.project_id, dataset_id)
    for key in (*keys, row.blob_key):
        if key is not None:
            context.blobs.delete(key)
