"""The room for training on a GPU: real children under the guardian's limits, and a driver that is hard to please."""

import logging
import os
import sys
from pathlib import Path

import pytest

import leash
from leash.linux import IS_LINUX
from store.settings import Settings
from worker.guardian import Guardian
from worker.rooms import TrainingRoom
from worker.workspace import Workspaces

pytestmark = pytest.mark.skipif(not IS_LINUX, reason="asks the kernel of Linux")

NEEDS = {
    "nothing": "True",
    "network": "os.readlink('/proc/self/ns/net') == outside_net",
    "files": "readable(secret)",
    "both": "readable(secret) and os.readlink('/proc/self/ns/net') == outside_net",
    "magic": "False",
}


@pytest.fixture(autouse=True)
def _empty_room() -> None:
    limits = leash.Limits(network=False, files=leash.Files(("/",), ()))
    child = leash.spawn(["/bin/true"], limits=limits)
    child.wait()
    if child.missing:
        pytest.skip(f"this kernel does not grant {', '.join(child.missing)}")


def picky(needs: str, secret: Path, count: Path) -> tuple[str, ...]:
    """A probe that finds its GPU only where it has what it needs, and leaves a dot in its workspace."""
    program = f"""
import os, sys
secret, outside_net = {str(secret)!r}, {os.readlink("/proc/self/ns/net")!r}
def readable(path):
    try:
        open(path).close()
        return True
    except OSError:
        return False
with open({str(count)!r}, "a") as file:
    file.write(".")
print("Found no NVIDIA driver")
sys.exit(0 if {NEEDS[needs]} else 1)
"""
    return (sys.executable, "-P", "-c", program)


@pytest.mark.parametrize(
    ("needs", "network", "sees_all", "asked"),
    [
        ("nothing", False, False, 1),
        ("network", True, False, 2),
        ("files", False, True, 3),
        ("both", True, True, 4),
        ("magic", False, False, 4),
    ],
)
def test_no_more_is_given_up_than_the_gpu_needs(
    needs: str,
    network: bool,
    sees_all: bool,
    asked: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr("worker.guardian.DEVICES", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    settings = Settings(data_dir=tmp_path / "data")
    workspaces = Workspaces(settings.workspace_dir, "wrk_1")
    workspace = workspaces.create("job")
    secret = settings.data_dir / "api-key"
    secret.write_text("abd_secret")
    count = workspace.root / "tmp" / "count"
    count.parent.mkdir(exist_ok=True)
    room = TrainingRoom(picky(needs, secret, count))
    guardian = Guardian(settings, workspaces, ("-c", ""), room)
    environment = guardian.environment(workspace, "distill", 0, 0)
    usual = guardian._limits(workspace, {"task": "distill"})
    with caplog.at_level(logging.WARNING):
        limits = [room.with_gpu(usual, environment, workspace.root) for _ in range(2)][1]
    assert (limits.network, limits.files is None) == (network, sees_all)
    assert len(count.read_text()) == asked
    assert bool(caplog.records) == (needs != "nothing")
    assert all("Found no NVIDIA driver" in record.getMessage() for record in caplog.records)
    (workspace.inputs / "upload").write_bytes(b"an input")
    strict = guardian._limits(workspace, {"task": "verify_dataset"})
    assert not strict.network
    assert strict.files is not None
    workspaces.close()
