"""safetensors bytes that depend on their content alone, and the description of a file in `outputs/`."""

import hashlib
import json
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save

from abcore.specs.reports import OutputFile

OutputKind = Literal["student", "report", "manifest", "card", "teacher", "dataset", "samples", "log"]

_LENGTH_BYTES = 8


def to_safetensors(state: dict[str, torch.Tensor], metadata: dict[str, str]) -> bytes:
    """Serialise like `safetensors.torch.save`, with metadata in sorted order: the library's own order is random."""
    content = save(state, metadata)
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    header = json.loads(content[_LENGTH_BYTES : _LENGTH_BYTES + length])
    ordered = {"__metadata__": dict(sorted(header.pop("__metadata__").items())), **header}
    text = json.dumps(ordered, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _LENGTH_BYTES)  # the format keeps tensors aligned to 8 bytes
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text + content[_LENGTH_BYTES + length :]


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
