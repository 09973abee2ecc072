"""Checkpoints made to harm: nothing of them runs, none costs more than its size, each is refused by name."""

import io
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from abcore.specs.architectures import ModelSpec
from abcore.specs.runs import ExitCode, VerifyTeacherRun


class Calls:
    """An object whose unpickling calls a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def _touch(room: Any) -> Calls:
    return Calls(os.system, f"touch {room.canary}")


def test_the_canary_would_show_an_execution(room: Any) -> None:
    """The other tests prove nothing unless this one passes."""
    pickle.loads(pickle.dumps(_touch(room)))
    assert room.canary.exists()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("place", ["top", "value", "key", "state"])
def test_os_system_is_refused_by_name_wherever_it_hides(
    forge: Any, room: Any, protocol: int, place: str
) -> None:
    evil = _touch(room)
    content: Any = {
        "top": evil,
        "value": {"state_dict": forge.state(), "epoch": evil},
        "key": {"state_dict": forge.state(), (evil,): 1},
        "state": {"state_dict": forge.state(), "args": [[{"x": (evil,)}]]},
    }[place]
    problem = room.refuse_teacher(forge.torch(content, pickle_protocol=protocol))
    assert (problem.code, problem.value) == ("checkpoint.foreign_object", "posix.system")
    assert "posix.system" in problem.message


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_bare_pickle_with_os_system_is_refused_by_name(room: Any, protocol: int) -> None:
    assert room.refuse_teacher(pickle.dumps(_touch(room), protocol=protocol)).value == "posix.system"


@pytest.mark.parametrize("protocol", [0, 1])
def test_a_pickle_of_the_oldest_protocols_is_not_opened(room: Any, protocol: int) -> None:
    assert (
        room.refuse_teacher(pickle.dumps(_touch(room), protocol=protocol)).code == "checkpoint.unknown_format"
    )


def test_the_old_format_with_os_system_is_refused_by_name(forge: Any, room: Any) -> None:
    upload = forge.torch({"a": torch.zeros(2), "b": _touch(room)}, _use_new_zipfile_serialization=False)
    assert room.refuse_teacher(upload).value == "posix.system"


@pytest.mark.parametrize(
    ("evil", "name"),
    [
        (Calls(eval, "1"), "__builtin__.eval"),
        (Calls(exec, "1"), "__builtin__.exec"),
        (Calls(getattr, "a", "upper"), "__builtin__.getattr"),
        (Calls(shutil.rmtree, "x"), "shutil.rmtree"),
        (Calls(open, "/tmp/x"), "io.open"),
        (Calls(bytearray, 6 * 10**9), "__builtin__.bytearray"),
        (Calls(torch.hub.load, "a", "b"), "torch.hub.load"),
        (Calls(torch.load, "x"), "torch.serialization.load"),
        (Calls(os.unlink, "x"), "posix.unlink"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_calls_are_refused_by_name(forge: Any, room: Any, evil: Calls, name: str) -> None:
    assert room.refuse_teacher(forge.torch({"a": evil})).value == name


def test_a_name_is_found_behind_the_instructions_of_another_protocol(forge: Any, room: Any) -> None:
    program = pickle.dumps([bytearray(b"x"), _touch(room)], protocol=5)
    assert room.refuse_teacher(forge.torch_zip(program)).value in ("builtins.bytearray", "posix.system")


def test_a_real_child_process_runs_nothing_either(forge: Any, room: Any, model: ModelSpec) -> None:
    (room.path / "inputs" / "upload").write_bytes(forge.torch(_touch(room)))
    (room.path / "run.json").write_text(VerifyTeacherRun(model=model).model_dump_json())
    child = subprocess.run(
        [sys.executable, "-m", "abcore.run", str(room.path)], capture_output=True, text=True, check=False
    )
    assert child.returncode == ExitCode.REFUSED
    assert "posix.system" in child.stderr
    assert not room.canary.exists()
    assert list(room.outputs.iterdir()) == []


def _memo_far_away(forge: Any) -> bytes:
    return bytes(forge.torch_zip(b"\x80\x02}r" + struct.pack("<I", 2**31 - 1) + b"."))


def _doubling_key(forge: Any) -> bytes:
    """A tuple of a tuple twice, 60 levels deep, as a key: hashing it would take 2^60 steps."""
    return bytes(forge.torch_zip(b"\x80\x02}K\x01q\x00" + b"h\x00\x86q\x00" * 60 + b"K\x01s."))


def _forged_storage(forge: Any, claimed: int) -> bytes:
    """A tensor that claims `claimed` floats, with 16 bytes behind it."""
    original = forge.torch({"fc.weight": torch.zeros(4)})
    with zipfile.ZipFile(io.BytesIO(original)) as archive:
        program = archive.read("archive/data.pkl")
    assert program.count(b"K\x04") == 2  # the storage's size, then the tensor's
    return bytes(
        forge.torch_zip(
            program.replace(b"K\x04", b"\x8a\x05" + claimed.to_bytes(5, "little")), **{"0": bytes(16)}
        )
    )


def _negative_storage(forge: Any) -> bytes:
    original = forge.torch({"fc.weight": torch.zeros(4)})
    with zipfile.ZipFile(io.BytesIO(original)) as archive:
        program = archive.read("archive/data.pkl")
    return bytes(forge.torch_zip(program.replace(b"K\x04", b"J\xff\xff\xff\xff", 1), **{"0": bytes(16)}))


def _missing_storage(forge: Any) -> bytes:
    with zipfile.ZipFile(io.BytesIO(forge.torch({"a": torch.zeros(4)}))) as archive:
        return bytes(forge.torch_zip(archive.read("archive/data.pkl")))


def _compressed(forge: Any) -> bytes:
    """2.9 MB that would unfold a thousandfold."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}, protocol=2))
        archive.writestr("archive/data/0", bytes(50 * 2**20))
    return content.getvalue()


def _overlapping(forge: Any) -> bytes:
    """Two directory entries for the same bytes."""
    upload = bytearray(forge.zip({"archive/data.pkl": b"\x80\x02}." + bytes(5000), "archive/data/0": b"x"}))
    at = upload.rindex(b"PK\x01\x02")
    struct.pack_into("<II", upload, at + 20, 5004, 5004)
    struct.pack_into("<I", upload, at + 42, 0)
    return bytes(upload)


def _twice(forge: Any) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("archive/data.pkl", b"\x80\x02].")
    return content.getvalue()


def _safetensors(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def _entry(begin: int, end: int, shape: Any = (1,), dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


HOSTILE: dict[str, tuple[Callable[[Any], bytes], str]] = {
    "memo index of two thousand million": (_memo_far_away, "checkpoint.bomb"),
    "key that takes 2^60 steps to hash": (_doubling_key, "checkpoint.bomb"),
    "storage of 4 TB over 16 bytes": (lambda forge: _forged_storage(forge, 2**40 - 1), "checkpoint.forged"),
    "storage of less than nothing": (_negative_storage, "checkpoint.forged"),
    "storage that is not there": (_missing_storage, "checkpoint.forged"),
    "view of 10^12 elements": (
        lambda forge: forge.torch({"fc.weight": torch.zeros(1).expand(10**12)}),
        "checkpoint.mismatch",
    ),
    "deflated entries": (_compressed, "checkpoint.compressed"),
    "entries that overlap": (_overlapping, "checkpoint.damaged"),
    "two programs of one name": (_twice, "checkpoint.damaged"),
    "program of 17 MB": (
        lambda forge: forge.torch_zip(b"\x80\x02" + b"N0" * (9 * 2**20)),
        "checkpoint.pickle_too_large",
    ),
    "bytearray8 that claims 6 GB": (
        lambda forge: forge.torch_zip(b"\x80\x02\x96" + struct.pack("<Q", 6 * 10**9) + b"."),
        "checkpoint.damaged",
    ),
    "string that claims 4 GB": (
        lambda forge: forge.torch_zip(b"\x80\x02X" + struct.pack("<I", 2**32 - 1) + b"."),
        "checkpoint.damaged",
    ),
    "extension registry": (lambda forge: forge.torch_zip(b"\x80\x02\x82\x01."), "checkpoint.pickle_protocol"),
    "persistent id that is no storage": (lambda forge: forge.torch_zip(b"\x80\x02K\x01Q."), "checkpoint.damaged"),
    "empty stack": (lambda forge: forge.torch_zip(b"\x80\x02s."), "checkpoint.damaged"),
    "mark that was never set": (lambda forge: forge.torch_zip(b"\x80\x02}u."), "checkpoint.damaged"),
    "memo that was never set": (lambda forge: forge.torch_zip(b"\x80\x02h\x07."), "checkpoint.damaged"),
    "no end": (lambda forge: forge.torch_zip(b"\x80\x02}"), "checkpoint.damaged"),
    "50,000 lists in one another": (
        lambda forge: forge.torch_zip(b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b"."),
        "checkpoint.no_state_dict",
    ),
    "header of 2^60 bytes": (lambda _: struct.pack("<Q", 2**60) + b"{" + bytes(99), "checkpoint.forged"),
    "header of 20 MB": (lambda _: _safetensors(b"{" + b" " * 20 * 2**20 + b"}"), "checkpoint.forged"),
    "header that is no JSON": (lambda _: _safetensors(b"{]"), "checkpoint.damaged"),
    "header nested 100,000 deep": (lambda _: _safetensors(b'{"a":' + b"[" * 100_000), "checkpoint.damaged"),
    "tensor that is a number": (lambda _: _safetensors({"a": 3}), "checkpoint.damaged"),
    "dtype that is unknown": (lambda _: _safetensors({"a": _entry(0, 1, dtype="F9")}, b"1"), "checkpoint.damaged"),
    "offsets beyond the file": (
        lambda _: _safetensors({"a": _entry(0, 4 * 10**12, [10**12])}, b"1234"),
        "checkpoint.forged",
    ),
    "offsets that run backwards": (lambda _: _safetensors({"a": _entry(4, 0)}, b"1234"), "checkpoint.forged"),
    "offsets below zero": (lambda _: _safetensors({"a": _entry(-4, 0)}, b"1234"), "checkpoint.forged"),
    "tensors that overlap": (
        lambda _: _safetensors({"a": _entry(0, 4), "b": _entry(0, 4)}, b"1234"),
        "checkpoint.forged",
    ),
    "shape of other size than its bytes": (
        lambda _: _safetensors({"a": _entry(0, 4, [2**33, 2**33])}, b"1234"),
        "checkpoint.forged",
    ),
    "shape below zero": (lambda _: _safetensors({"a": _entry(0, 4, [-1, -1])}, b"1234"), "checkpoint.forged"),
    "shape of strings": (lambda _: _safetensors({"a": _entry(0, 4, ["1"])}, b"1234"), "checkpoint.damaged"),
    "hole between tensors": (lambda _: _safetensors({"a": _entry(4, 8)}, b"12345678"), "checkpoint.damaged"),
    "data after the last tensor": (lambda _: save({"a": torch.zeros(1)}) + b"more", "checkpoint.damaged"),
    "no tensor at all": (lambda _: _safetensors({}), "checkpoint.no_state_dict"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_checkpoints_are_refused(forge: Any, room: Any, case: str) -> None:
    make, code = HOSTILE[case]
    assert room.refuse_teacher(make(forge)).code == code


@pytest.mark.parametrize("case", ["memo index of two thousand million", "storage of 4 TB over 16 bytes"])
def test_a_small_file_costs_little_memory(forge: Any, room: Any, case: str) -> None:
    before = _peak_bytes()
    room.refuse_teacher(HOSTILE[case][0](forge))
    assert _peak_bytes() - before < 64 * 2**20


def _peak_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024
