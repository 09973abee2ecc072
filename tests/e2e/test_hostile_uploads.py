"""Uploads that are wrong or worse, into the whole service: each is told clearly, nothing runs, nothing stays."""

import io
import os
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from abdistill import Client
from abdistill.errors import Invalid, Rejected
from PIL import Image

from abcore.architectures import build_model
from abcore.specs.architectures import ModelSpec
from demo.service import running_service

MODEL = {
    "architecture": {"arch": "wide_resnet", "depth": 10, "width": 1},
    "image": {"channels": 1, "height": 8, "width": 8},
    "num_classes": 4,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[Client]:
    """The service as `abdistill-server up` runs it: broker, API, worker, each a process."""
    with running_service(folder / "service", folder / "service.log") as client:
        yield client


def _weights(**changes: object) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = build_model(ModelSpec.model_validate(MODEL | changes)).state_dict()
    return state


def _images() -> bytes:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (64, 8, 8), dtype=np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, images=images, labels=np.arange(64) % 4)
    return buffer.getvalue()


def _archive(*files: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files:
            archive.writestr(name, content)
    return buffer.getvalue()


def _png() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "PNG")
    return buffer.getvalue()


class _RunsOnLoad:
    def __init__(self, canary: Path) -> None:
        self._canary = canary

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self._canary}",)


def _teacher_files(canary: Path) -> dict[str, tuple[bytes, str, str]]:
    """Case -> content, code of the problem, a part of its message or hint."""
    malicious, good, other = io.BytesIO(), io.BytesIO(), io.BytesIO()
    torch.save({"state_dict": _weights(), "extra": _RunsOnLoad(canary)}, malicious)
    torch.save(_weights(), good)
    torch.save(_weights(architecture={"arch": "wide_resnet", "depth": 16, "width": 1}), other)
    return {
        "malicious pickle": (malicious.getvalue(), "checkpoint.foreign_object", "posix.system"),
        "truncated file": (good.getvalue()[:-20_000], "checkpoint.damaged", "send it again"),
        "another architecture": (other.getvalue(), "checkpoint.mismatch", "unexpected"),
    }


DATASET_FILES = {
    "climbing zip": (
        _archive(("train/a/1.png", _png()), ("../../climbed.png", _png())),
        "archive.unsafe_path",
        "climbed.png",
    ),
    "broken image": (
        _archive(("train/a/1.png", _png()), ("train/b/2.png", _png()[:40])),
        "dataset.broken_images",
        "train/b/2.png",
    ),
}


def test_each_is_told_nothing_runs_and_nothing_stays(client: Client, folder: Path) -> None:
    canary = folder / "canary"
    teachers = _teacher_files(canary)
    path = folder / "upload"
    for case, (content, code, told) in (teachers | DATASET_FILES).items():
        path.write_bytes(content)
        add = partial(client.teachers.add, model=MODEL) if case in teachers else client.datasets.add
        with pytest.raises(Rejected) as rejected:
            add(path)
        (problem,) = rejected.value.resource.problems
        assert problem.code == code, case
        assert told in f"{problem.message} {problem.hint}", case
        assert problem.where, case
        assert problem.hint, case
    assert not canary.exists(), "the upload's code ran"
    assert not list(folder.rglob("climbed.png"))
    kept = [file for file in (folder / "service" / "blobs").rglob("*") if file.is_file()]
    assert [file.name for file in kept if not file.name.startswith("log-")] == []

    path.write_bytes(_images())
    dataset = client.datasets.add(path)
    assert dataset.state == "ready", "the service goes on"
    with pytest.raises(Invalid) as invalid:
        client.jobs.create(
            dataset=dataset.id,
            student=MODEL["architecture"],
            recipe={"transfer": None, "finetun": {"epochs": 1}},
        )
    (problem,) = invalid.value.problem.errors
    assert (problem.where, problem.hint) == ("recipe.finetun", "Did you mean 'finetune'?")
