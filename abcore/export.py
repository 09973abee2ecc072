"""What a run leaves behind: the student as safetensors with its spec inside, and the report."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save
from torch import nn

from abcore.atomic import write_atomically
from abcore.specs.architectures import ModelSpec, Normalization
from abcore.specs.reports import DistillReport, OutputFile

OutputKind = Literal["student", "report", "teacher", "dataset", "samples", "log"]

_LENGTH_BYTES = 8


def write_student(
    path: Path,
    student: nn.Module,
    *,
    model: ModelSpec,
    normalization: Normalization,
    classes: tuple[str, ...],
    metrics: Mapping[str, float],
) -> OutputFile:
    """Write the student's state dict with all that is needed to use it.

    Metadata, each a JSON text: `model` (ModelSpec), `normalization`, `classes` (in order of the logits), `metrics`.
    The same weights and metadata give the same bytes.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in student.state_dict().items()}
    metadata = {
        "format": "pt",
        "model": model.model_dump_json(),
        "normalization": normalization.model_dump_json(),
        "classes": json.dumps(classes),
        "metrics": json.dumps(dict(metrics), sort_keys=True),
    }
    content = to_safetensors(state, metadata)
    write_atomically(path, content)
    return output_file(path, "student", "application/vnd.safetensors")


def to_safetensors(state: dict[str, torch.Tensor], metadata: dict[str, str]) -> bytes:
    """Serialise like `safetensors.torch.save`, with metadata in sorted order: the library's own order is random."""
    content = save(state, metadata)
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    header = json.loads(content[_LENGTH_BYTES : _LENGTH_BYTES + length])
    ordered = {"__metadata__": dict(sorted(header.pop("__metadata__").items())), **header}
    text = json.dumps(ordered, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _LENGTH_BYTES)  # the format keeps tensors aligned to 8 bytes
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text + content[_LENGTH_BYTES + length :]


def write_report(path: Path, report: DistillReport) -> OutputFile:
    """Write `report.json`."""
    write_atomically(path, report.model_dump_json(indent=2).encode() + b"\n")
    return output_file(path, "report", "application/json")


def output_file(path: Path, kind: OutputKind, media_type: str) -> OutputFile:
    """Describe a file in `outputs/`."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    return OutputFile(
        name=path.name,
        kind=kind,
        media_type=media_type,
        size_bytes=path.stat().st_size,
        sha256=digest.hexdigest(),
    )
