"""The service as it runs on several machines: rows in PostgreSQL, files in S3, nothing of either in its own folder."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from api.downloads import LINK_FROM_BYTES
from demo.service import running_service
from store.blobs import open_blobs

ARCHITECTURE = {"arch": "wide_resnet", "depth": 10, "width": 3}
SHORT = {"epochs": 1, "batch_size": 64}
SMALL = {"crop_padding": 1, "horizontal_flip": False}


def test_from_a_dataset_to_a_student(
    tmp_path: Path, fresh_postgres_url: str, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ABDISTILL_DATABASE_URL", fresh_postgres_url)
    monkeypatch.setenv("ABDISTILL_BLOBS_URL", s3_url)
    digits = load_digits()
    buffer = io.BytesIO()
    np.savez(buffer, images=np.round(digits.images * (255 / 16)).astype(np.uint8), labels=digits.target)
    (tmp_path / "digits.npz").write_bytes(buffer.getvalue())
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
