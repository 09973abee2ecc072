"""Safetensors files whose headers lie."""

import json
import struct
from collections.abc import Iterator
from typing import Any

import torch
from hostile.case import Case, Make, Row, family
from plugins.forge import Forge
from safetensors.torch import save

DAMAGED, FORGED = "checkpoint.damaged", "checkpoint.forged"


def _file(header: Any, data: bytes = b"", length: int | None = None) -> Make:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return lambda _: struct.pack("<Q", len(text) if length is None else length) + text + data


def _entry(begin: Any, end: Any, shape: Any = (1,), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def _one(*entry: Any, data: bytes = b"1234") -> Make:
    return _file({"a": _entry(*entry)}, data)


def _cut(share: float) -> Make:
    def make(forge: Forge) -> bytes:
        whole = save(forge.state())
        return whole[: int(len(whole) * share)]

    return make


def cases() -> Iterator[Case]:
    """All of them."""
    entry = json.dumps(_entry(0, 4)).encode()
    yield from family(
        "safetensors headers",
        "teacher",
        {
            "of 2^60 bytes": (_file(b"{" + bytes(99), length=2**60), FORGED),
            "of 2^64 - 1 bytes": (_file(b"{}", length=2**64 - 1), FORGED),
            "one byte longer than the file": (_file(b"{}", length=3), FORGED),
            "shorter than its JSON": (_file({"a": _entry(0, 4)}, b"1234", length=5), DAMAGED),
            "of 20 MB": (_file(b"{" + b" " * 20 * 2**20 + b"}"), FORGED),
            "that are no JSON": (_file(b"{]"), DAMAGED),
            "nested 100,000 deep": (_file(b'{"a":' + b"[" * 100_000), DAMAGED),
            "with a number of 10,000 digits": (
                _file(
                    b'{"a":{"dtype":"F32","shape":[' + b"9" * 10_000 + b'],"data_offsets":[0,4]}}', b"1234"
                ),
                DAMAGED,
            ),
            "that are not UTF-8": (_file(b'{"\xff\xfe":1}'), DAMAGED),
            "with a name twice": (_file(b'{"a":' + entry + b',"a":' + entry + b"}", b"1234"), FORGED),
            "with 20,000 tensors of nothing": (
                _file({f"t{i}": _entry(0, 0, (0,)) for i in range(20_000)}),
                "checkpoint.mismatch|checkpoint.damaged",
            ),
            "with metadata that is no text": (
                _file({"__metadata__": {"a": [1]}, "a": _entry(0, 4)}, b"1234"),
                DAMAGED,
            ),
            "with metadata alone": (_file({"__metadata__": {"a": "b"}}), "checkpoint.no_state_dict"),
            "of no tensor": (_file({}), "checkpoint.no_state_dict"),
            "with NUL in a name": (_file({"a\0b": _entry(0, 4)}, b"1234"), "checkpoint.mismatch"),
            "with half a surrogate for a name": (_file(b'{"\\ud800":' + entry + b"}", b"1234"), DAMAGED),
        },
    )
    yield from family(
        "safetensors ranges",
        "teacher",
        {
            "beyond the file": (_one(0, 4 * 10**12, [10**12]), FORGED),
            "that run backwards": (_one(4, 0), FORGED),
            "below zero": (_one(-4, 0), FORGED),
            "that overlap": (_file({"a": _entry(0, 4), "b": _entry(0, 4)}, b"1234"), FORGED),
            "that overlap in part": (
                _file({"a": _entry(0, 8, [2]), "b": _entry(4, 12, [2])}, bytes(12)),
                FORGED,
            ),
            "with a hole before": (_one(4, 8, data=b"12345678"), DAMAGED),
            "with a hole between": (_file({"a": _entry(0, 4), "b": _entry(8, 12)}, bytes(12)), DAMAGED),
            "with data behind": (lambda _: save({"a": torch.zeros(1)}) + b"more", DAMAGED),
            "of fractions": (_one(0.5, 4.5), "checkpoint.damaged|checkpoint.forged"),
            "of text": (_one("0", "4"), DAMAGED),
            "of three numbers": (_file({"a": {**_entry(0, 4), "data_offsets": [0, 2, 4]}}, b"1234"), DAMAGED),
            "past 2^64": (_one(2**64, 2**64 + 4), FORGED),
        },
    )
    yield from family(
        "safetensors shapes",
        "teacher",
        {
            "whose product overflows": (_one(0, 4, [2**33, 2**33]), FORGED),
            "whose product wraps to the right size": (_one(0, 4, [2**63, 2, 1]), FORGED),
            "below zero": (_one(0, 4, [-1, -1]), FORGED),
            "of text": (_one(0, 4, ["1"]), DAMAGED),
            "of fractions": (_one(0, 4, [0.5, 2]), DAMAGED),
            "nothing": (_one(0, 4, None), DAMAGED),
            "of ten thousand sides": (_one(0, 4, [1] * 10_000), "checkpoint.damaged|checkpoint.mismatch"),
            "of an unknown type": (_one(0, 4, [1], "F9"), DAMAGED),
            "of eight-bit floats": (_one(0, 4, [4], "F8_E4M3"), DAMAGED),
            "of a type that is a list": (_one(0, 4, [1], ["F32"]), DAMAGED),
            "of a tensor that is a number": (_file({"a": 3}), DAMAGED),
        },
    )
    cuts: dict[str, Row] = {
        f"after {share:.2%}": (_cut(share), "checkpoint.damaged|checkpoint.forged|checkpoint.unknown_format")
        for share in (0.00001, 0.01, 0.03, 0.05, 0.3, 0.7, 0.99)
    }
    yield from family("safetensors cut off", "teacher", cuts)
