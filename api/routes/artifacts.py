"""`/v1/jobs/{id}/artifacts`: the files that a job leaves."""

from fastapi import APIRouter, Request, Response

from api.auth import Reader
from api.context import ContextDep
from api.documentation import refusals
from api.downloads import RESPONSES, send_artifact
from api.routes.jobs import find
from api.schemas.jobs import Artifact, ArtifactPage
from store import artifacts

router = APIRouter(prefix="/v1/jobs/{job_id}/artifacts", tags=["jobs"])


@router.get("", operation_id="list_job_artifacts", responses=refusals(404))
def list_(job_id: str, context: ContextDep, caller: Reader) -> ArtifactPage:
    """List a job's files: checkpoints while it runs, its outputs when it has succeeded."""
    find(context, caller.project_id, job_id)
    rows = artifacts.list_(context.db, caller.project_id, job_id)
    return ArtifactPage(data=[Artifact.model_validate(row) for row in rows], has_more=False)


@router.head("/{name}", operation_id="head_job_artifact", include_in_schema=False)
@router.get(
    "/{name}",
    operation_id="download_job_artifact",
    response_class=Response,
    responses=RESPONSES,
)
def download(job_id: str, name: str, request: Request, context: ContextDep, caller: Reader) -> Response:
    """Download a file. Its ETag is its sha256; Range, If-Range, If-Match and If-None-Match are heeded.

    Where the service keeps its files in S3, a large one is answered by 307, to an address that opens this file alone.
    """
    find(context, caller.project_id, job_id)
    return send_artifact(request, context, artifacts.get(context.db, caller.project_id, job_id, name))
