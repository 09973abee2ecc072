"""What the tests of uploads share: a forge that makes them, good and bad, and a bench that verifies them."""

import gzip
import io
import signal
import struct
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from abcore.architectures import build_model
from abcore.events import EventReader, EventWriter, Failed
from abcore.run import run_workspace
from abcore.specs.architectures import ImageShape, ModelSpec, WideResNet
from abcore.specs.refusals import Problem
from abcore.specs.runs import ExitCode, RunResult, VerifyDatasetRun, VerifyTeacherRun

MODEL = ModelSpec(
    architecture=WideResNet(arch="wide_resnet", depth=10, width=1),
    image=ImageShape(channels=1, height=8, width=8),
    num_classes=3,
)


class Forge:
    """Makes the bytes of uploads."""

    def png(
        self, value: int = 0, size: tuple[int, int] = (8, 8), mode: str = "L", format: str = "PNG"
    ) -> bytes:
        """An image that no other `value` gives."""
        pixels = np.random.default_rng(value).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        return self.image(Image.fromarray(pixels).convert(mode), format)

    def image(self, image: Image.Image, format: str = "PNG") -> bytes:
        content = io.BytesIO()
        image.save(content, format)
        return content.getvalue()

    def folder(self, train: int = 4, val: int = 0, test: int = 2, **image: Any) -> dict[str, bytes]:
        """The files of an ImageFolder with classes `cat` and `dog`, so many images a class."""
        counts = {"train": train, "val": val, "test": test}
        places = [(s, c, i) for s, count in counts.items() for c in ("cat", "dog") for i in range(count)]
        return {
            f"{split}/{name}/{i}.png": self.png(number, **image)
            for number, (split, name, i) in enumerate(places)
        }

    def zip(self, files: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", compression) as archive:
            for name, body in files.items():
                archive.writestr(name, body)
        return content.getvalue()

    def tar(self, files: Mapping[str, bytes], *special: tarfile.TarInfo) -> bytes:
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as archive:
            for name, body in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(body)
                archive.addfile(info, io.BytesIO(body))
            for info in special:
                archive.addfile(info)
        return content.getvalue()

    def tar_gz(self, files: Mapping[str, bytes]) -> bytes:
        return gzip.compress(self.tar(files))

    def npz(self, **arrays: Any) -> bytes:
        content = io.BytesIO()
        np.savez(content, **arrays)
        return content.getvalue()

    def npy(self, header: str, body: bytes = b"") -> bytes:
        """A .npy file with any text for a header."""
        padded = header.encode() + b" " * (-(len(header) + 11) % 64) + b"\n"
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded + body

    def idx(self, array: Any) -> bytes:
        return (
            b"\x00\x00\x08"
            + bytes([array.ndim])
            + struct.pack(f">{array.ndim}I", *array.shape)
            + array.tobytes()
        )

    def state(self, model: ModelSpec = MODEL) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        return build_model(model).state_dict()

    def torch(self, content: Any, **options: Any) -> bytes:
        file = io.BytesIO()
        torch.save(content, file, **options)
        return file.getvalue()

    def torch_zip(self, program: bytes, **storages: bytes) -> bytes:
        """A file in PyTorch's format around any pickle."""
        data = {f"archive/data/{name}": content for name, content in storages.items()}
        return self.zip({"archive/data.pkl": program, "archive/version": b"3\n", **data})


class Room:
    """A workspace for one upload. Refusals are checked for what all of them promise."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.canary = path.parent / "canary"
        self.outputs = path / "outputs"
        (path / "inputs").mkdir(parents=True)

    def _run(self, upload: bytes, run: VerifyTeacherRun | VerifyDatasetRun) -> ExitCode:
        (self.path / "inputs" / "upload").write_bytes(upload)
        (self.path / "run.json").write_text(run.model_dump_json())
        events = EventWriter(self.path / "events.jsonl")
        try:
            return run_workspace(self.path, events, threading.Event())
        finally:
            events.close()

    def accept(self, upload: bytes, run: VerifyTeacherRun | VerifyDatasetRun) -> Any:
        """Verify an upload that is good; return its report."""
        code = self._run(upload, run)
        assert code is ExitCode.DONE, list(EventReader(self.path / "events.jsonl").read())
        result = RunResult.model_validate_json((self.outputs / "result.json").read_bytes())
        assert {file.name for file in result.files} | {"result.json"} == {
            p.name for p in self.outputs.iterdir()
        }
        return result.report

    def refuse(self, upload: bytes, run: VerifyTeacherRun | VerifyDatasetRun) -> Problem:
        """Verify an upload that is bad; return the problem, having checked that nothing ran and nothing stayed."""
        assert self._run(upload, run) is ExitCode.REFUSED
        (failed,) = EventReader(self.path / "events.jsonl").read()
        assert isinstance(failed, Failed)
        (problem,) = failed.problems
        assert problem.where, problem
        assert problem.hint, problem
        assert len(problem.model_dump_json()) < 20_000
        left = {str(path.relative_to(self.path)) for path in self.path.rglob("*")}
        assert left == {"run.json", "inputs", "inputs/upload", "events.jsonl", "outputs"}
        assert (self.path / "inputs" / "upload").read_bytes() == upload
        assert not self.canary.exists()
        return problem

    def accept_teacher(self, upload: bytes, model: ModelSpec = MODEL) -> Any:
        return self.accept(upload, VerifyTeacherRun(model=model))

    def refuse_teacher(self, upload: bytes, model: ModelSpec = MODEL) -> Problem:
        return self.refuse(upload, VerifyTeacherRun(model=model))

    def accept_dataset(self, upload: bytes, **options: Any) -> Any:
        return self.accept(upload, VerifyDatasetRun(filename="upload.bin", **options))

    def refuse_dataset(self, upload: bytes, **options: Any) -> Problem:
        return self.refuse(upload, VerifyDatasetRun(filename="upload.bin", **options))


@pytest.fixture
def model() -> ModelSpec:
    """The architecture of the teachers that are uploaded."""
    return MODEL


@pytest.fixture(scope="session")
def forge() -> Forge:
    """The maker of uploads."""
    return Forge()


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    """A workspace; the process's answer to SIGTERM, which a run changes, is put back."""
    before = signal.getsignal(signal.SIGTERM)
    yield Room(tmp_path / "workspace")
    signal.signal(signal.SIGTERM, before)
