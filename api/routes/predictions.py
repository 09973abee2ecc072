"""`/v1/jobs/{id}/predictions`: a finished student, tried on a few images."""

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool

from abcore.specs.refusals import Problem
from api.auth import Reader
from api.context import Context, ContextDep
from api.documentation import refusals
from api.problems import Refused
from api.routes.jobs import find
from api.schemas.predictions import Prediction, PredictionCreate, Predictions
from store import artifacts
from store.models import Artifact

STUDENT = "student.safetensors"
MOST_STUDENT_BYTES = 2**30

router = APIRouter(prefix="/v1/jobs/{job_id}/predictions", tags=["jobs"])


@router.post("", operation_id="predict", responses=refusals(404, 409, 410, 413, 415, 503))
async def predict(job_id: str, body: PredictionCreate, context: ContextDep, caller: Reader) -> Predictions:
    """Show up to 16 images to a job's student, once the job has succeeded. Nothing is kept, and reading suffices."""
    student = await run_in_threadpool(_student, context, caller.project_id, job_id)
    found = await context.predictor.predict(context.blobs, student, body.images, body.top)
    data = [Prediction(classes=classes) for classes in found]
    return Predictions(job=job_id, student_sha256=student.sha256, data=data)


def _student(context: Context, project_id: str, job_id: str) -> Artifact:
    job = find(context, project_id, job_id)
    if job.state != "succeeded":
        raise Refused(
            Problem(
                code="job.not_succeeded",
                message=f"the job is {job.state}, and has no student yet",
                where="path.job_id",
                value=job.state,
                allowed=("succeeded",),
            )
        )
    student = artifacts.get(context.db, project_id, job_id, STUDENT)
    if student.size_bytes > MOST_STUDENT_BYTES:
        raise Refused(
            Problem(
                code="job.student_too_large",
                message=f"{STUDENT} has {student.size_bytes:,} bytes; the service itself runs students of up to "
                f"{MOST_STUDENT_BYTES:,}",
                where="path.job_id",
                value=student.size_bytes,
                allowed=(f"<= {MOST_STUDENT_BYTES}",),
            )
        )
    return student
