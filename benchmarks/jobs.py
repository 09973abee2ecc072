"""Databases with many jobs: half of them have succeeded, a hundred wait, the others were cancelled."""

import time
from typing import Any

from sqlalchemy import insert

from abcore.specs.architectures import ImageShape, ModelSpec, Normalization, WideResNet
from abcore.specs.recipes import Recipe
from abcore.specs.runs import DistillRun
from store import schema
from store.database import Database
from store.ids import new_id
from store.models import DEFAULT_PROJECT, Job

STUDENT: dict[str, Any] = {"arch": "wide_resnet", "depth": 16, "width": 2}
NUM_WAITING = 100
CHUNK = 5000


def database_of(url: str, num_jobs: int) -> Database:
    """Migrate an empty database, and fill it."""
    schema.upgrade(url)
    db = Database(url)
    for start in range(0, num_jobs, CHUNK):
        with db.write() as session:
            rows = [_row(number, num_jobs) for number in range(start, min(start + CHUNK, num_jobs))]
            session.execute(insert(Job), rows)
    return db


def _row(number: int, num_jobs: int) -> dict[str, Any]:
    is_waiting = number >= num_jobs - NUM_WAITING
    now = time.time()
    ended = "succeeded" if number % 2 else "cancelled"
    return {
        "id": new_id("job"),
        "project_id": DEFAULT_PROJECT,
        "kind": "distill",
        "labels": {"team": f"team-{number % 7}"},
        "state": "queued" if is_waiting else ended,
        "name": f"job {number}",
        "spec": {name: _RUN[name] for name in ("student", "recipe", "outputs")},
        "run": _RUN,
        "method": "ab",
        "created_at": now - (num_jobs - number),
        "ended_at": None if is_waiting else now,
    }


_RUN = DistillRun(
    student=WideResNet.model_validate(STUDENT),
    teacher=ModelSpec(
        architecture=WideResNet(arch="wide_resnet", depth=22, width=4),
        image=ImageShape(channels=3, height=32, width=32),
        num_classes=10,
    ),
    normalization=Normalization(mean=(0.5,) * 3, std=(0.25,) * 3),
    recipe=Recipe(),
).model_dump(mode="json")
