"""The service as it runs on several machines: rows in PostgreSQL, files in S3, nothing of either in its own folder."""

import hashlib
import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from abdistill import Client
from sklearn.datasets import load_digits

from api.downloads import LINK_FROM_BYTES
from demo.service import running_service
from store.blobs import open_blobs

ARCHITECTURE = {"arch": "wide_resnet", "depth": 10, "width": 3}
SHORT = {"epochs": 1, "batch_size": 64}
SMALL = {"crop_padding": 1, "horizontal_flip": False}


def save_digits(path: Path) -> None:
    digits = load_digits()
    buffer = io.BytesIO()
    np.savez(buffer, images=np.round(digits.images * (255 / 16)).astype(np.uint8), labels=digits.target)
    path.write_bytes(buffer.getvalue())


def test_from_a_dataset_to_a_student(
    tmp_path: Path, fresh_postgres_url: str, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ABDISTILL_DATABASE_URL", fresh_postgres_url)
    monkeypatch.setenv("ABDISTILL_BLOBS_URL", s3_url)
    save_digits(tmp_path / "digits.npz")
    with running_service(tmp_path / "service", tmp_path / "service.log") as client:
        dataset = client.datasets.add(tmp_path / "digits.npz")
        recipe = {"finetune": SHORT, "augmentation": SMALL}
        teacher = client.teachers.train(
            "made here", dataset=dataset.id, architecture=ARCHITECTURE, recipe=recipe
        )
        client.teachers.wait(teacher.id, timeout_seconds=120)
        job = client.jobs.create(
            teacher=teacher.id,
            dataset=dataset.id,
            student=ARCHITECTURE,
            recipe=recipe | {"transfer": SHORT},
        )
        client.jobs.wait(job.id, timeout_seconds=120)
        student = tmp_path / "student.safetensors"
        client.jobs.download(job.id, "student.safetensors", student)
        (stored,) = (file for file in client.jobs.artifacts(job.id) if file.name == student.name)
    content = student.read_bytes()
    assert len(content) >= LINK_FROM_BYTES, "it is to come by way of a redirect"
    assert hashlib.sha256(content).hexdigest() == stored.sha256
    assert any(key.startswith(f"jobs/{job.id}/") for key in open_blobs(s3_url).list(""))
    assert not (tmp_path / "service" / "blobs").exists()
    assert not (tmp_path / "service" / "abdistill.db").exists()


@pytest.mark.slow
def test_on_a_second_machine_the_teacher_is_not_asked_again(
    tmp_path: Path, fresh_postgres_url: str, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ABDISTILL_DATABASE_URL", fresh_postgres_url)
    monkeypatch.setenv("ABDISTILL_BLOBS_URL", s3_url)
    save_digits(tmp_path / "digits.npz")
    recipe = {"finetune": SHORT, "augmentation": SMALL}
    job = {"student": ARCHITECTURE | {"width": 1}, "recipe": recipe | {"transfer": SHORT}}
    with running_service(tmp_path / "one", tmp_path / "one.log") as client:
        job["dataset"] = client.datasets.add(tmp_path / "digits.npz").id
        teacher = client.teachers.train(
            "made here", dataset=job["dataset"], architecture=ARCHITECTURE, recipe=recipe
        )
        job["teacher"] = client.teachers.wait(teacher.id, timeout_seconds=120).id
        first = told_of(client, job)
        wait_until_put(s3_url, first["computed"])
    with running_service(tmp_path / "two", tmp_path / "two.log") as client:
        second = told_of(client, job)
    assert first == {"local": 0, "shared": 0, "computed": 4, "student": first["student"]}
    assert second == {"local": 0, "shared": 4, "computed": 0, "student": first["student"]}


def told_of(client: Client, fields: dict[str, Any]) -> dict[str, Any]:
    """Where a new job's answers came from, and what its student is."""
    job = client.jobs.create(**fields)
    client.jobs.wait(job.id, timeout_seconds=120)
    notes = client.jobs.events(job.id, type=["note"]).data
    (details,) = (note.data["details"] for note in notes if note.data["code"] == "teacher.answers")
    (student,) = (file for file in client.jobs.artifacts(job.id) if file.name == "student.safetensors")
    return details | {"student": student.sha256}


def wait_until_put(s3_url: str, number: int) -> None:
    deadline = time.monotonic() + 30.0
    while len(list(open_blobs(s3_url).list("answers"))) < number:
        assert time.monotonic() < deadline
        time.sleep(0.1)
