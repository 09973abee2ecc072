"""The student, held against what the service says of it, with nothing but its file and the demo's own images."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from abdistill import Artifact
from abdistill.reports import DistillReport
from safetensors import safe_open

from abcore.architectures import build_model
from abcore.specs.architectures import ModelSpec, Normalization
from demo.data import Data
from demo.teacher import accuracy, to_input

# Sums in batches of another size round differently: an image between two classes may fall to the other one.
TOLERATED_IMAGES = 1


@dataclass(frozen=True)
class Student:
    """What the file itself shows."""

    num_parameters: int
    file_bytes: int
    sha256: str
    test_accuracy: float


def load_and_measure(path: Path, data: Data) -> Student:
    """Rebuild the network from the file's metadata, load its weights, and measure it on the test images."""
    with safe_open(path, framework="pt") as file:
        spec = ModelSpec.model_validate_json(file.metadata()["model"])
        normalization = Normalization.model_validate_json(file.metadata()["normalization"])
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - safe_open is no mapping
    model = build_model(spec)
    model.load_state_dict(weights)
    return Student(
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        file_bytes=path.stat().st_size,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        test_accuracy=accuracy(
            model, to_input(data.test_images, normalization), torch.from_numpy(data.test_labels)
        ),
    )


def differences(student: Student, artifact: Artifact, report: DistillReport) -> list[str]:
    """In words, where the service's account and the file differ; empty where all is as it says."""
    told = report.student_accuracy["test"]
    checks = {
        "sha256": (student.sha256, artifact.sha256, student.sha256 == artifact.sha256),
        "size in bytes": (student.file_bytes, artifact.size_bytes, student.file_bytes == artifact.size_bytes),
        "parameters": (
            student.num_parameters,
            report.student.num_parameters,
            student.num_parameters == report.student.num_parameters,
        ),
        "test accuracy": (
            student.test_accuracy,
            told.top1,
            abs(student.test_accuracy - told.top1) * told.num_images < TOLERATED_IMAGES + 0.5,
        ),
    }
    return [
        f"{name}: the file has {found}, the service says {said}"
        for name, (found, said, same) in checks.items()
        if not same
    ]
