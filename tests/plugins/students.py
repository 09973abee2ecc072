"""A finished student as jobs leave it, made without training one."""

from functools import cache

import torch

from abcore.architectures import build_model
from abcore.export.finished import FinishedStudent
from abcore.export.weights import weights
from abcore.specs.architectures import ImageShape, ModelSpec, Normalization, WideResNet

CLASSES = tuple(f"digit {number}" for number in range(10))


@cache
def finished(channels: int = 1, height: int = 8, width: int = 8) -> FinishedStudent:
    """A WRN-10-1 of ten classes, its weights drawn at random, for images of this shape."""
    spec = ModelSpec(
        architecture=WideResNet(arch="wide_resnet", depth=10, width=1),
        image=ImageShape(channels=channels, height=height, width=width),
        num_classes=len(CLASSES),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model(spec)
    normalization = Normalization(mean=(0.3,) * channels, std=(0.4,) * channels)
    return FinishedStudent.of(model, spec, normalization, CLASSES, {})


def student_file(channels: int = 1, height: int = 8, width: int = 8) -> bytes:
    """Its `student.safetensors`."""
    return weights(finished(channels, height, width))
