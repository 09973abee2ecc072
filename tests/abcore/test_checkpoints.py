"""Checkpoints: whole or not at all, the last two kept, nothing in them ever executed."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from abcore.checkpoints import FORMAT, Checkpoints


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


def load(folder: Path) -> tuple[dict[str, Any] | None, list[str]]:
    complaints: list[str] = []
    loaded = Checkpoints(folder).load_newest(complaints.append)
    return (None if loaded is None else loaded.state), complaints


def test_what_was_saved_comes_back(folder: Path) -> None:
    state = {"weights": torch.randn(3, 4), "nested": [{"rate": 0.1, "none": None, "name": "sgd"}], "step": 7}
    saved = Checkpoints(folder).save(7, state)
    assert saved.size_bytes == saved.path.stat().st_size
    loaded, complaints = load(folder)
    assert loaded is not None
    assert not complaints
    assert torch.equal(loaded.pop("weights"), state.pop("weights"))
    assert loaded == state


def test_an_empty_folder_has_none(folder: Path) -> None:
    assert load(folder) == (None, [])


def test_the_last_two_are_kept(folder: Path) -> None:
    checkpoints = Checkpoints(folder)
    for step in (9, 10, 100, 1_000_000):
        checkpoints.save(step, {"step": step})
    assert sorted(path.name for path in folder.iterdir()) == ["step-0000000100.ckpt", "step-0001000000.ckpt"]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_one_falls_back_to_the_one_before(folder: Path, share: float) -> None:
    checkpoints = Checkpoints(folder)
    checkpoints.save(1, {"step": 1, "weights": torch.zeros(1000)})
    newest = checkpoints.save(2, {"step": 2, "weights": torch.zeros(1000)}).path
    os.truncate(newest, int(newest.stat().st_size * share))
    loaded, complaints = load(folder)
    assert loaded is not None
    assert loaded["step"] == 1
    assert len(complaints) == 1
    assert newest.name in complaints[0]
    assert not newest.exists()  # or the next save would count it among the last two


def test_a_flipped_bit_is_seen(folder: Path) -> None:
    path = Checkpoints(folder).save(1, {"weights": torch.zeros(1000)}).path
    content = bytearray(path.read_bytes())
    content[-200] ^= 1
    path.write_bytes(content)
    loaded, complaints = load(folder)
    assert loaded is None
    assert "sha256" in complaints[0]


def test_another_format_is_left_out(folder: Path) -> None:
    path = Checkpoints(folder).save(1, {"step": 1}).path
    path.write_bytes(
        path.read_bytes().replace(b"abdistill-checkpoint %d " % FORMAT, b"abdistill-checkpoint 0 ", 1)
    )
    loaded, complaints = load(folder)
    assert loaded is None
    assert "format 0" in complaints[0]


class _Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_a_pickle_is_never_executed(folder: Path, tmp_path: Path) -> None:
    victim = tmp_path / "executed"
    Checkpoints(folder).save(1, {"bomb": _Bomb(victim)})
    with pytest.raises(pickle.UnpicklingError):
        load(folder)
    assert not victim.exists()


def test_a_half_written_file_is_no_checkpoint(folder: Path) -> None:
    checkpoints = Checkpoints(folder)
    path = checkpoints.save(1, {"step": 1}).path
    (folder / "step-0000000002.ckpt.partial").write_bytes(path.read_bytes()[:50])
    loaded, complaints = load(folder)
    assert loaded == {"step": 1}
    assert not complaints
