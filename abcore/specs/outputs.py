"""Which files a job leaves, and what each format is: its file, its libraries, its size beforehand. Knows no torch."""

import importlib.util
from dataclasses import dataclass
from typing import Literal, get_args

from pydantic import Field

from abcore.specs.base import Spec

OutputFormat = Literal["safetensors", "safetensors-fp16", "safetensors-bf16", "onnx", "onnx-int8", "pt2"]
_ONNX = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class FormatFacts:
    """`share` is the file's size over that of the weights in float32, about; `libraries` must be importable."""

    file: str
    media_type: str
    share: float
    libraries: tuple[str, ...]
    description: str

    @property
    def missing(self) -> tuple[str, ...]:
        """The libraries that this Python does not have."""
        return tuple(name for name in self.libraries if importlib.util.find_spec(name) is None)


FORMATS: dict[OutputFormat, FormatFacts] = {
    "safetensors": FormatFacts(
        "student.safetensors", "application/vnd.safetensors", 1.0, (), "Weights in float32; always there."
    ),
    "safetensors-fp16": FormatFacts(
        "student.fp16.safetensors", "application/vnd.safetensors", 0.5, (), "Weights rounded to float16."
    ),
    "safetensors-bf16": FormatFacts(
        "student.bf16.safetensors", "application/vnd.safetensors", 0.5, (), "Weights rounded to bfloat16."
    ),
    "onnx": FormatFacts("student.onnx", "application/vnd.onnx", 1.0, _ONNX, "ONNX, any batch size."),
    "onnx-int8": FormatFacts(
        "student.int8.onnx",
        "application/vnd.onnx",
        0.25,
        _ONNX,
        "ONNX, quantised to 8 bits, calibrated on training images.",
    ),
    "pt2": FormatFacts(
        "student.pt2", "application/vnd.pytorch.pt2", 1.0, (), "A torch.export program, any batch size."
    ),
}


class Outputs(Spec):
    """Which files of the student a job leaves. Report and manifest are always there too."""

    formats: tuple[OutputFormat, ...] = Field(
        default=("safetensors",),
        max_length=len(get_args(OutputFormat)),
        description="`student.safetensors` (float32) is always made, named or not. One of the others that cannot be "
        "made costs the job nothing: the report says why, and a warning does.",
    )
    required: tuple[OutputFormat, ...] = Field(
        default=(),
        max_length=len(get_args(OutputFormat)),
        description="Formats to make as well, and without which the job shall fail.",
    )

    @property
    def wanted(self) -> tuple[OutputFormat, ...]:
        """All formats to make, in the order of `FORMATS`."""
        return tuple(name for name in FORMATS if name in ("safetensors", *self.formats, *self.required))
