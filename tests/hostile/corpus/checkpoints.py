"""Files of torch.save whose tensors or zip directories are not what they claim."""

import io
import pickle
import struct
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import torch
from hostile.case import Case, Make, Row, family
from hostile.corpus.pickles import GADGETS
from plugins.forge import Forge

DAMAGED, FORGED, MISMATCH = "checkpoint.damaged", "checkpoint.forged", "checkpoint.mismatch"
_CLAIMED = 16
_HUGE = 2**62


class _Storage:
    """A storage as a persistent id; `elements` are what it claims, `key` the entry that holds it."""

    def __init__(self, elements: Any = _CLAIMED, key: str = "0", kind: Any = torch.FloatStorage) -> None:
        self.id = ("storage", kind, key, "cpu", elements)


class _View:
    """A tensor over a storage, of any offset, shape and strides."""

    def __init__(self, storage: _Storage, offset: Any, size: Any, stride: Any) -> None:
        self._arguments = (storage, offset, size, stride, False, OrderedDict())

    def __reduce__(self) -> Any:
        return torch._utils._rebuild_tensor_v2, self._arguments


class _Pickler(pickle.Pickler):
    def persistent_id(self, value: Any) -> Any:
        return value.id if isinstance(value, _Storage) else None


def _program(content: Any) -> bytes:
    file = io.BytesIO()
    _Pickler(file, protocol=2).dump(content)
    return file.getvalue()


def _holding(content: Any, **storages: bytes) -> Make:
    data = storages or {"0": bytes(4 * _CLAIMED)}
    return lambda forge: forge.torch_zip(_program(content), **data)


def _view(offset: Any, size: Any, stride: Any) -> Make:
    return _holding({"fc.weight": _View(_Storage(), offset, size, stride)})


def _storage(*arguments: Any) -> Make:
    return _holding({"fc.weight": _View(_Storage(*arguments), 0, (1,), (1,))})


def _all_from_one_number(forge: Forge) -> bytes:
    """Every weight a view of one number: small as a file, of the right shapes, and no larger when it is read."""
    state = forge.state()
    return forge.torch(
        {k: v if v.dtype == torch.int64 else torch.zeros(()).expand(v.shape) for k, v in state.items()}
    )


def _with_entries(forge: Forge, **entries: bytes) -> bytes:
    return forge.zip({"archive/data.pkl": pickle.dumps({}, 2), **entries})


def _overlapping(forge: Forge) -> bytes:
    """Two directory entries for the same bytes."""
    upload = bytearray(forge.zip({"archive/data.pkl": b"\x80\x02}." + bytes(5000), "archive/data/0": b"x"}))
    at = upload.rindex(b"PK\x01\x02")
    struct.pack_into("<II", upload, at + 20, 5004, 5004)
    struct.pack_into("<I", upload, at + 42, 0)
    return bytes(upload)


def _twice(forge: Forge) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of what is wanted here
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        archive.writestr("archive/data.pkl", pickle.dumps(GADGETS["os.system"], 2))
    return content.getvalue()


def _two_directories(forge: Forge) -> bytes:
    """A harmless archive within the comment of one that is not, and the other way round for another reader."""
    evil, good = forge.torch(GADGETS["os.system"]), forge.torch({})
    return evil[:-2] + struct.pack("<H", len(good)) + good


def _renamed_in_place(forge: Forge) -> bytes:
    """The directory calls harmless what the entry itself calls data.pkl."""
    evil = forge.torch_zip(pickle.dumps(GADGETS["os.system"], 2), **{"0": b"\x80\x02}."})
    at = evil.index(b"PK\x01\x02")
    return evil[:at] + evil[at:].replace(b"archive/data.pkl", b"archive/data.txt")


def _zip64(forge: Forge) -> bytes:
    """An entry of 2^63 bytes by its zip64 field."""
    extra = struct.pack("<HHQQ", 1, 16, 2**63, 2**63)
    info = zipfile.ZipInfo("archive/data/0")
    info.extra = extra
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}, 2))
        archive.writestr(info, b"1234")
    upload = bytearray(content.getvalue())
    struct.pack_into("<II", upload, upload.rindex(b"PK\x01\x02") + 20, 2**32 - 1, 2**32 - 1)
    return bytes(upload)


def _encrypted(forge: Forge) -> bytes:
    upload = bytearray(forge.torch({}))
    upload[upload.index(b"PK\x01\x02") + 8] |= 1
    return bytes(upload)


def _crc(forge: Forge) -> bytes:
    """A byte of the program changed, its checksum not."""
    upload = forge.torch({"epoch": 3})
    return upload.replace(b"epoch", b"EPOCH", 1)


def _deflated(forge: Forge) -> bytes:
    entries = {"archive/data.pkl": pickle.dumps({}, 2), "archive/data/0": bytes(50 * 2**20)}
    return forge.zip(entries, zipfile.ZIP_DEFLATED)


def _torchscript(forge: Forge) -> bytes:
    return forge.zip(
        {"archive/data.pkl": b"\x80\x02}.", "archive/constants.pkl": b"", "archive/code/x.py": b""}
    )


def _cut(share: float) -> Make:
    def make(forge: Forge) -> bytes:
        whole = forge.torch(forge.state())
        return whole[: int(len(whole) * share)]

    return make


def _state_with(**changes: Any) -> Make:
    """A whole state dict, some of its tensors replaced."""

    def make(forge: Forge) -> bytes:
        state = forge.state()
        for name, change in changes.items():
            key = next(key for key in state if key.endswith(name))
            state[key] = change(state[key])
        return forge.torch(state)

    return make


def cases() -> Iterator[Case]:
    """All of them."""
    yield from family(
        "forged storages",
        "teacher",
        {
            "4 TB over 64 bytes": (_storage(2**40), FORGED),
            "2^70 elements": (_storage(2**70), FORGED),
            "less than nothing": (_storage(-1), FORGED),
            "one element too many": (_storage(_CLAIMED + 1), FORGED),
            "one that is not there": (_storage(4, "7"), FORGED),
            "one outside of the archive's folder": (_storage(4, "../data.pkl"), FORGED),
            "an absolute one": (_storage(4, "/etc/passwd"), FORGED),
            "a number of elements that is text": (_storage("16"), "checkpoint.damaged|checkpoint.forged"),
            "a fraction of an element": (
                _storage(0.5),
                "checkpoint.damaged|checkpoint.forged|checkpoint.mismatch",
            ),
            "a kind that is no storage": (_storage(16, "0", torch.Size), DAMAGED),
        },
    )
    yield from family(
        "forged tensors",
        "teacher",
        {
            "a negative stride": (_view(15, (16,), (-1,)), DAMAGED),
            "an offset beyond the storage": (_view(10**9, (1,), (1,)), DAMAGED),
            "a negative offset": (_view(-4, (1,), (1,)), DAMAGED),
            "a shape beyond the storage": (_view(0, (10**6,), (1,)), DAMAGED),
            "strides beyond the storage": (_view(0, (2, 2), (_HUGE, 1)), DAMAGED),
            "a shape whose product overflows": (
                _view(0, (_HUGE, 4), (0, 0)),
                "checkpoint.damaged|checkpoint.mismatch",
            ),
            "a negative shape": (_view(0, (-1,), (1,)), DAMAGED),
            "more strides than sides": (_view(0, (2,), (1, 1, 1)), DAMAGED),
            "a thousand sides": (
                _view(0, (1,) * 1000, (1,) * 1000),
                "checkpoint.damaged|checkpoint.mismatch",
            ),
            "a shape of text": (_view(0, "ab", (1,)), DAMAGED),
            "tensors that share their bytes": (
                _holding({n: _View(_Storage(), 0, (16,), (1,)) for n in "abc"}),
                MISMATCH,
            ),
            "every weight a view of one number": (_all_from_one_number, ""),
        },
    )
    yield from family(
        "zip directories of checkpoints that lie",
        "teacher",
        {
            "entries that overlap": (_overlapping, DAMAGED),
            "two programs of one name": (_twice, DAMAGED),
            "a second directory in the comment": (
                _two_directories,
                "checkpoint.foreign_object|checkpoint.damaged|checkpoint.no_state_dict|checkpoint.not_torch",
            ),
            "an entry of another name than the directory's": (
                _renamed_in_place,
                "checkpoint.not_torch|checkpoint.damaged",
            ),
            "an entry of 2^63 bytes": (_zip64, DAMAGED),
            "an encrypted program": (_encrypted, DAMAGED),
            "a checksum that does not fit": (_crc, DAMAGED),
            "compressed entries": (_deflated, "checkpoint.compressed"),
            "a program of TorchScript": (_torchscript, "checkpoint.torchscript"),
            "no program": (lambda forge: forge.zip({"weights.bin": b"1234"}), "checkpoint.not_torch"),
            "two folders with programs": (
                lambda forge: forge.zip({f"{n}/data.pkl": b"\x80\x02}." for n in "ab"}),
                "checkpoint.not_torch",
            ),
            "a program out of the archive": (
                lambda forge: forge.zip({"../data.pkl": b"\x80\x02}."}),
                "checkpoint.no_state_dict|checkpoint.damaged|checkpoint.not_torch",
            ),
            "bytes before the archive": (
                lambda forge: b"\0" * 99 + forge.torch({}),
                "checkpoint.unknown_format",
            ),
            "an empty directory": (lambda _: b"PK\x05\x06" + bytes(18), "checkpoint.not_torch"),
            "a directory beyond the file": (
                lambda _: b"PK\x05\x06" + bytes(6) + struct.pack("<HII", 1, 2**31, 2**31) + bytes(2),
                DAMAGED,
            ),
        },
    )
    shares = (0.0001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.9999)
    cuts: dict[str, Row] = {
        f"after {share:.2%}": (_cut(share), "checkpoint.damaged|checkpoint.unknown_format")
        for share in shares
    }
    yield from family("checkpoints cut off", "teacher", cuts)
    yield from family(
        "weights that are none",
        "teacher",
        {
            "not a number": (_state_with(weight=lambda t: t * torch.nan), "checkpoint.not_finite"),
            "too large for float32": (
                _state_with(weight=lambda t: t.double() + 1e300),
                "checkpoint.not_finite",
            ),
            "variances below zero": (_state_with(running_var=lambda t: t - 10**6), "checkpoint.no_answer"),
            "whole numbers": (_state_with(weight=lambda t: t.long()), "checkpoint.unsupported_tensor"),
            "another shape": (_state_with(weight=lambda t: t[..., None]), MISMATCH),
            "no tensor": (lambda forge: forge.torch({"epoch": 3}), "checkpoint.no_state_dict"),
            "a list": (lambda forge: forge.torch([1, 2]), "checkpoint.no_state_dict"),
            "names that upset a terminal": (
                lambda forge: forge.torch({"\x1b[2J\0": torch.zeros(1)}),
                MISMATCH,
            ),
            "a name of a million letters": (
                lambda forge: forge.torch({"a" * 10**6: torch.zeros(1)}),
                MISMATCH,
            ),
        },
    )
