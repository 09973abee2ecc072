"""`python -m abcore.replay`: a manifest and the files as they were uploaded give the same student."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from abcore import replay
from abcore.ingest import verify_dataset, verify_teacher
from abcore.specs.runs import VerifyDatasetRun, VerifyTeacherRun

MakeBench = Callable[..., Any]


@pytest.fixture
def uploads(inputs: Path, tmp_path: Path) -> dict[str, Path]:
    """The digits as npz without held-out images, and the teacher as torch saves it."""
    digits = load_file(inputs / "dataset.safetensors")
    images, labels = digits["train_images"].numpy(), digits["train_labels"].numpy()
    np.savez(tmp_path / "digits.npz", train_images=images.squeeze(1), train_labels=labels)
    torch.save(load_file(inputs / "teacher.safetensors"), tmp_path / "teacher.pt")
    return {"dataset": tmp_path / "digits.npz", "teacher": tmp_path / "teacher.pt"}


@pytest.fixture
def job(make_bench: MakeBench, uploads: dict[str, Path], tmp_path: Path) -> Path:
    """The outputs of a job on these uploads, a fifth of the images held out."""
    bench = make_bench("job")
    room = tmp_path / "room"
    for name, upload in uploads.items():
        (room / "inputs").mkdir(parents=True)
        (room / "outputs").mkdir()
        shutil.copy(upload, room / "inputs" / "upload")
        if name == "dataset":
            verify_dataset(VerifyDatasetRun(filename="digits.npz", holdout_fraction=0.2), room)
        else:
            verify_teacher(VerifyTeacherRun(model=bench.run.teacher), room)
        shutil.move(
            room / "outputs" / f"{name}.safetensors", bench.workspace / "inputs" / f"{name}.safetensors"
        )
        shutil.rmtree(room)
    bench.distill()
    outputs: Path = bench.workspace / "outputs"
    return outputs


def test_the_same_bits_from_the_uploads(
    job: Path, uploads: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = [str(job / "manifest.json"), str(tmp_path / "again"), "--dataset", str(uploads["dataset"])]
    with pytest.raises(SystemExit, match="2"):
        replay.main([*words, "--holdout-fraction", "0.2"])
    assert "The run had a teacher: give --teacher FILE." in capfd.readouterr().err
    words += ["--teacher", str(uploads["teacher"])]
    with pytest.raises(SystemExit, match="2"):
        replay.main(words)
    assert "--dataset is another dataset than the run's" in capfd.readouterr().err
    assert replay.main([*words, "--holdout-fraction", "0.2"]) == 0
    assert capfd.readouterr().out.splitlines()[-1] == "student.safetensors: the same bits"
    again = tmp_path / "again" / "outputs" / "student.safetensors"
    assert again.read_bytes() == (job / "student.safetensors").read_bytes()
    verified = job.parent / "inputs" / "dataset.safetensors"
    words = [*words[:1], str(tmp_path / "verified"), *words[2:], "--dataset", str(verified)]
    assert replay.main(words) == 0
    manifest = (job / "manifest.json").read_text()
    (job / "manifest.json").write_text(
        manifest.replace('"student.safetensors": "', '"student.safetensors": "f')
    )
    assert replay.main(words) == replay.OTHER_BITS
