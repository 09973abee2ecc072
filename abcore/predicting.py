"""`python -m abcore.predicting`: a finished student's classes for images, a JSON line on stdout for each on stdin.

    {"student": PATH, "images": [BASE64, ...], "top": 5}
        -> {"ok": [[{"index": 3, "name": "cat", "probability": 0.91}, ...], ...]}
    what cannot be done -> {"refused": Problem};   a bug -> {"error": "..."}

The first line, `{"ready": true}`, says that torch is loaded. The images are a stranger's: this process is to have no
network, no secret, and no file but the students.
"""

import base64
import json
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor, nn

from abcore.answering import serve
from abcore.architectures import build_model
from abcore.data.batches import Normalise
from abcore.ingest.images import BrokenImage, Pixels, decode, resize
from abcore.specs.architectures import ImageShape, ModelSpec, Normalization
from abcore.specs.refusals import Refusal

STUDENTS_AT_HAND = 4


class Student(NamedTuple):
    """A network in evaluation mode, and what its file says of it."""

    model: nn.Module
    image: ImageShape
    normalise: Normalise
    classes: tuple[str, ...]


@lru_cache(STUDENTS_AT_HAND)
def load_student(path: Path) -> Student:
    """Rebuild a student from its `student.safetensors` alone."""
    with safe_open(path, framework="pt") as file:
        told = file.metadata()
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - safe_open is no mapping
    spec = ModelSpec.model_validate_json(told["model"])
    model = build_model(spec)
    model.load_state_dict(weights)
    normalization = Normalization.model_validate_json(told["normalization"])
    normalise = Normalise(normalization, torch.device("cpu"))
    return Student(
        model.eval().requires_grad_(False), spec.image, normalise, tuple(json.loads(told["classes"]))
    )


@torch.no_grad()
def predict(student: Student, images: list[bytes], top: int) -> list[list[dict[str, Any]]]:
    """Return for each image file its `top` most likely classes, the likeliest first.

    An image is scaled as a dataset's are, its middle cut out; one that has the student's size is taken as it is.

    Raises:
        Refusal: an image cannot be read (`image.unreadable`).
    """
    images_BCHW = torch.stack(
        [_to_tensor(content, student.image, index) for index, content in enumerate(images)]
    )
    logits_BK = student.model(student.normalise(images_BCHW))
    probabilities_BK = logits_BK.float().softmax(dim=1)
    likely = probabilities_BK.topk(min(top, probabilities_BK.shape[1]), dim=1)
    return [
        [
            {"index": index, "name": student.classes[index], "probability": probability}
            for index, probability in zip(indices, probabilities, strict=True)
        ]
        for indices, probabilities in zip(likely.indices.tolist(), likely.values.tolist(), strict=True)
    ]


def _to_tensor(content: bytes, image: ImageShape, index: int) -> Tensor:
    """image_CHW, uint8."""
    try:
        pixels = decode(content)
    except BrokenImage as broken:
        raise Refusal(
            "image.unreadable",
            f"image {index} {broken}",
            where=f"images.{index}",
            allowed=("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM"),
        ) from broken
    fitted = _fit(_with_channels(pixels, image.channels), image.height, image.width)
    return torch.from_numpy(fitted.transpose(2, 0, 1).copy())


def _with_channels(pixels: Pixels, channels: int) -> Pixels:
    if pixels.shape[2] == channels:
        return pixels
    if channels == 1:
        return np.asarray(Image.fromarray(pixels).convert("L"))[:, :, None]
    return np.repeat(pixels, 3, axis=2)


def _fit(pixels: Pixels, height: int, width: int) -> Pixels:
    if pixels.shape[:2] == (height, width):
        return pixels
    if height == width:
        return resize(pixels, height)
    share = min(pixels.shape[0] / height, pixels.shape[1] / width)
    left, top = (pixels.shape[1] - share * width) / 2, (pixels.shape[0] - share * height) / 2
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    box = (left, top, left + share * width, top + share * height)
    scaled = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box=box))
    return scaled.reshape(height, width, pixels.shape[2])


def answer(line: str) -> list[list[dict[str, Any]]]:
    """Answer one line, as this module's docstring says. Raises as `predict`."""
    asked = json.loads(line)
    images = [base64.b64decode(image) for image in asked["images"]]
    return predict(load_student(Path(asked["student"])), images, asked["top"])


if __name__ == "__main__":
    serve(answer)
