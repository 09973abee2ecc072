"""Safetensors files, screened before the library opens them: the header's size and every claimed range."""

import itertools
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from abcore.specs.refusals import Refusal

MOST_HEADER_BYTES = 16 * 2**20
"""A header holds names and shapes: about 100 bytes a tensor. One of 94 MB takes the library half a minute."""

_LENGTH_BYTES = 8
_DTYPE_BYTES = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}


def load_safetensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file, one whose header begins with a brace, into named tensors on the CPU.

    Raises:
        Refusal: `checkpoint.damaged` or `checkpoint.forged`: cut off, or its header claims what the file has not.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if length > min(size - _LENGTH_BYTES, MOST_HEADER_BYTES):
            raise _forged(
                f"its header claims {length:,} bytes (file: {size:,}; limit: {MOST_HEADER_BYTES:,})"
            )
        text = file.read(length)
    try:
        header = json.loads(text, object_pairs_hook=_each_name_once)
    except (ValueError, RecursionError) as error:
        raise _damaged(f"its header is not JSON ({error})") from error
    _screen_ranges(header, size - _LENGTH_BYTES - length)
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise _damaged(str(error)) from error


def _each_name_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON readers differ in which of two they take: what was checked must be what is loaded."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = Counter(name for name, _ in pairs)
        raise _forged(f"its header names {names.most_common(1)[0][0][:100]!r} more than once")
    return found


def _screen_ranges(header: dict[str, Any], data_bytes: int) -> None:
    ranges = []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        try:
            begin, end = entry["data_offsets"]
            claimed = math.prod(entry["shape"]) * _DTYPE_BYTES[entry["dtype"]]
            valid = all(dimension >= 0 for dimension in entry["shape"]) and 0 <= begin <= end <= data_bytes
        except (TypeError, ValueError, KeyError) as error:
            raise _damaged(f"tensor {name[:100]!r} is not described as the format wants it") from error
        if not valid or end - begin != claimed:
            raise _forged(
                f"tensor {name[:100]!r} claims bytes {begin} to {end} of {data_bytes} for {claimed} bytes"
            )
        ranges.append((begin, end, name))
    ranges.sort()
    for (_, end, name), (begin, _, following) in itertools.pairwise(ranges):
        if begin < end:
            raise _forged(f"tensors {name[:100]!r} and {following[:100]!r} overlap")


def _forged(why: str) -> Refusal:
    return Refusal(
        "checkpoint.forged",
        f"the safetensors file is not consistent: {why}",
        where="checkpoint",
        hint="The file is damaged or made by hand: save it again with safetensors.torch.save_file.",
    )


def _damaged(why: str) -> Refusal:
    return Refusal(
        "checkpoint.damaged",
        f"the safetensors file cannot be read: {why}",
        where="checkpoint",
        hint="The file was cut off or altered on its way: send it again with its sha256.",
    )
