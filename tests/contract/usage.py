"""What a program does with the generated Python client; it is type-checked against it, and run against a service."""

import os

from abdistill_api import AuthenticatedClient
from abdistill_api.api.datasets import create_dataset
from abdistill_api.api.jobs import create_job, list_jobs
from abdistill_api.models import (
    Dataset,
    DatasetCreate,
    Finetune,
    JobCreate,
    JobPage,
    KnowledgeDistillation,
    ProblemDocument,
    Recipe,
    WideResNet,
)

client = AuthenticatedClient(os.environ["ABDISTILL_URL"], os.environ["ABDISTILL_API_KEY"])

dataset = create_dataset.sync(client=client, body=DatasetCreate(name="digits", filename="digits.npz"))
assert isinstance(dataset, Dataset), dataset
recipe = Recipe(method=KnowledgeDistillation(name="kd"), transfer=None, finetune=Finetune(epochs=2))
job = JobCreate(
    dataset=dataset.id,
    teacher="tch_none",
    student=WideResNet(arch="wide_resnet", depth=10, width=1),
    recipe=recipe,
)
refused = create_job.sync(client=client, body=job, idempotency_key="once")
assert isinstance(refused, ProblemDocument), refused
page = list_jobs.sync(client=client, state=[])
assert isinstance(page, JobPage), page
print(dataset.state, refused.type_, [(one.code, one.where) for one in refused.errors], len(page.data))
