"""What a child is given of the machine."""

import pytest

from store.settings import Settings
from worker.guardian import Guardian
from worker.workspace import Workspace, Workspaces


@pytest.mark.parametrize(
    ("slots", "width", "gpus", "visible", "slot", "own"),
    [
        (1, 1, 0, None, 0, None),
        (2, 1, 0, None, 1, None),
        (1, 1, 2, None, 0, "0"),
        (2, 1, 2, None, 1, "1"),
        (2, 1, 1, None, 1, "0"),  # more slots than GPUs share them
        (2, 1, 8, "4,6", 1, "6"),
        (3, 1, 8, "4,6", 2, "4"),
        (1, 2, 2, None, 0, "0,1"),
        (1, 2, 1, None, 0, "0"),  # fewer GPUs than a job may ask for: one that does is refused
        (2, 2, 4, "GPU-a,GPU-b,GPU-c,GPU-d", 1, "GPU-c,GPU-d"),
    ],
)
def test_each_slot_has_its_own_gpus(
    slots: int, width: int, gpus: int, visible: str | None, slot: int, own: str | None, monkeypatch, tmp_path
) -> None:
    devices = [*(f"nvidia{index}" for index in range(gpus)), "nvidiactl", "nvidia-uvm"]
    for device in devices:
        (tmp_path / device).touch()
    monkeypatch.setattr("worker.guardian.DEVICES", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    settings = Settings(data_dir=tmp_path, worker_slots=slots, slot_devices=width)
    guardian = Guardian(settings, Workspaces(settings.workspace_dir, "wrk_1"))
    environment = guardian.environment(Workspace(tmp_path), "distill", slot, 0)
    assert environment.get("CUDA_VISIBLE_DEVICES") == own
    assert guardian.environment(Workspace(tmp_path), "verify_dataset", slot, 0)["CUDA_VISIBLE_DEVICES"] == ""
