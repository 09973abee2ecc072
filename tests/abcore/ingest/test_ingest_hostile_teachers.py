"""Checkpoints made to harm: nothing of them runs, none costs more than its size, each is refused by name."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile.corpus import CORPUS
from hostile.corpus.pickles import CANARY, GADGETS, Calls

from abcore.specs.architectures import ModelSpec
from abcore.specs.runs import ExitCode, VerifyTeacherRun


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


def test_a_real_child_process_runs_nothing_either(forge: Any, room: Any, model: ModelSpec) -> None:
    (room.path / "inputs" / "upload").write_bytes(forge.torch(GADGETS["os.system"]))
    (room.path / "run.json").write_text(VerifyTeacherRun(model=model).model_dump_json())
    child = subprocess.run(
        [sys.executable, "-m", "abcore.run", str(room.path)], capture_output=True, text=True, check=False
    )
    assert child.returncode == ExitCode.REFUSED
    assert "posix.system" in child.stderr
    assert not CANARY.exists()
    assert list(room.outputs.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["memo entry of two thousand million", "4 TB over 64 bytes", "hex of hex, 40 times"]
)
def test_a_small_file_costs_little_memory(forge: Any, room: Any, name: str) -> None:
    (case,) = [case for case in CORPUS if case.name == name]
    before = _peak_bytes()
    room.refuse_teacher(case.make(forge))
    assert _peak_bytes() - before < 64 * 2**20


def _peak_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024
