"""Checkpoints without foreign code, whose pickles ask for more memory or time than there is."""

import pickle
import struct
from collections.abc import Iterator

import torch
from hostile.case import Case, Make, family

_ENCODE = b"c_codecs\nencode\n"
BOMB = "checkpoint.bomb"
DAMAGED = "checkpoint.damaged"


def _program(program: bytes) -> Make:
    return lambda forge: forge.torch_zip(program)


def _encoded(encoding: str, times: int) -> Make:
    """`_codecs.encode`, which scalars of numpy need, of its own result, again and again: hex doubles each time."""
    text = encoding.encode()
    tail = b"X" + struct.pack("<I", len(text)) + text + b"\x86R"
    start = b"X\x08\0\0\0aaaaaaaa" + b"X\x06\0\0\0latin1\x86R"
    return _program(b"\x80\x02" + _ENCODE * (times + 1) + start + tail * times + b".")


def _pickled(content: object) -> Make:
    return lambda forge: forge.torch_zip(pickle.dumps(content, protocol=2))


def _ring() -> dict[str, object]:
    ring: dict[str, object] = {}
    ring["state_dict"] = ring
    return ring


def _scalar(dtype: str, content: bytes) -> Make:
    """A scalar of numpy of any dtype."""
    name = dtype.encode()
    head = b"\x80\x02cnumpy._core.multiarray\nscalar\ncnumpy\ndtype\nX" + struct.pack("<I", len(name)) + name
    body = b"\x85R" + _ENCODE + b"X" + struct.pack("<I", len(content)) + content + b"X\x06\0\0\0latin1\x86R"
    return _program(head + body + b"\x86R.")


def _view(size: int) -> Make:
    return lambda forge: forge.torch({"fc.weight": torch.zeros(1).expand(size)})


def cases() -> Iterator[Case]:
    """All of them."""
    yield from family(
        "pickles that ask for too much",
        "teacher",
        {
            "memo entry of two thousand million": (
                _program(b"\x80\x02}r" + struct.pack("<I", 2**31 - 1) + b"."),
                BOMB,
            ),
            "key that takes 2^60 steps to hash": (
                _program(b"\x80\x02}K\x01q\x00" + b"h\x00\x86q\x00" * 60 + b"K\x01s."),
                BOMB,
            ),
            "hex of hex, 40 times": (_encoded("hex", 40), "checkpoint.foreign_object"),
            "punycode of punycode": (_encoded("punycode", 20), "checkpoint.foreign_object"),
            "utf-32 of text": (_encoded("utf-32", 1), "checkpoint.foreign_object"),
            "bytearray8 that claims 6 GB": (
                _program(b"\x80\x02\x96" + struct.pack("<Q", 6 * 10**9) + b"."),
                DAMAGED,
            ),
            "string that claims 4 GB": (
                _program(b"\x80\x02X" + struct.pack("<I", 2**32 - 1) + b"."),
                DAMAGED,
            ),
            "number of 2 GB": (_program(b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"."), DAMAGED),
            "program of 17 MB": (_program(b"\x80\x02" + b"N0" * (9 * 2**20)), "checkpoint.pickle_too_large"),
            "50,000 lists in one another": (
                _program(b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b"."),
                "checkpoint.no_state_dict",
            ),
            "a dictionary that holds itself": (_pickled(_ring()), "checkpoint.no_state_dict"),
            "a hundred thousand keys": (
                _pickled(dict.fromkeys(range(10**5))),
                "checkpoint.no_state_dict",
            ),
            "view of 10^12 elements": (_view(10**12), "checkpoint.mismatch"),
            "scalar of 2 GB": (_scalar("V2147483647", b"x"), DAMAGED),
            "scalar that is any object": (_scalar("O", b"x"), "checkpoint.no_state_dict|checkpoint.damaged"),
            "scalar of a thousand fields": (_scalar("f8," * 1000, b"x"), DAMAGED),
            "scalar of a subarray of 10^9": (_scalar("(1000000000,)f8", b"x"), DAMAGED),
        },
    )
    yield from family(
        "pickles that are no programs",
        "teacher",
        {
            "persistent id that is no storage": (_program(b"\x80\x02K\x01Q."), DAMAGED),
            "empty stack": (_program(b"\x80\x02s."), DAMAGED),
            "mark that was never set": (_program(b"\x80\x02}u."), DAMAGED),
            "memo that was never set": (_program(b"\x80\x02h\x07."), DAMAGED),
            "no end": (_program(b"\x80\x02}"), DAMAGED),
            "nothing": (_program(b""), DAMAGED),
            "text": (_program(b"hello"), DAMAGED),
            "a build of a number": (
                _program(b"\x80\x02K\x01K\x02b."),
                "checkpoint.damaged|checkpoint.no_state_dict",
            ),
            "names with a lone surrogate": (
                _program(b"\x80\x02}X\x03\0\0\0\xed\xa0\x80K\x01s."),
                "checkpoint.no_state_dict",
            ),
            "protocol 2 that turns into 4": (
                _program(b"\x80\x02\x80\x04\x95" + bytes(8) + b"}."),
                "checkpoint.pickle_protocol",
            ),
        },
    )
