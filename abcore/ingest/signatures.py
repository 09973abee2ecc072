"""What a file is, by its first bytes: a name proves nothing."""

import json
from pathlib import Path
from typing import Literal

Kind = Literal["zip", "tar", "gzip", "safetensors", "pickle", "parquet", "other"]

_HEAD_BYTES = 512
_SAFETENSORS_LENGTH_BYTES = 8

_KNOWN = (
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x89HDF", "an HDF5 file"),
    (b"%PDF", "a PDF document"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ", "an xz file"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x93NUMPY", "a single .npy array"),
    (b"GGUF", "a GGUF model"),
    (b"\x7fELF", "an executable program"),
    (b"MZ", "an executable program"),
)


def kind_of(path: Path) -> Kind:
    """Tell the container that a file's first bytes claim; whether the rest holds that is for its reader to find out."""
    head = _head(path)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    if head.startswith(b"PAR1"):
        return "parquet"
    if head[257:262] == b"ustar":
        return "tar"
    if head[_SAFETENSORS_LENGTH_BYTES : _SAFETENSORS_LENGTH_BYTES + 1] == b"{":
        return "safetensors"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "pickle"
    return "other"


def looks_like(path: Path) -> str:
    """Say in words what a file seems to be, for a message to whoever sent it."""
    head = _head(path)
    if not head:
        return "an empty file"
    for magic, words in _KNOWN:
        if head.startswith(magic):
            return words
    match kind_of(path):
        case "zip":
            return "a zip archive"
        case "tar":
            return "a tar archive"
        case "gzip":
            return "a gzip file"
        case "safetensors":
            return "a safetensors file"
        case "pickle":
            return "a pickle"
        case "parquet":
            return "a parquet file"
        case _:
            return _text_or_not(head)


def _text_or_not(head: bytes) -> str:
    try:
        text = head[: _HEAD_BYTES - 4].decode()
    except UnicodeDecodeError:
        return f"unknown bytes ({head[:8].hex(' ')} ...)"
    return f"text ({json.dumps(text[:40])} ...)"


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES)
