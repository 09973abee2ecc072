"""Any bytes at all: a reader of uploads answers with a report or a refusal, never with anything else."""

import gzip
import io
import pickle
import pickletools
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from abcore.ingest import verify_dataset, verify_teacher
from abcore.specs.architectures import ModelSpec
from abcore.specs.refusals import Refusal
from abcore.specs.runs import VerifyDatasetRun, VerifyTeacherRun


def _fuzz(max_examples: int) -> settings:
    """The same examples each time; the fixtures that are asked for do not change with them."""
    return settings(
        max_examples=max_examples,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


Edit = tuple[float, int, bytes]
"""Where (share of the length), how many bytes to take out, what to put in."""

TELLING = [
    b"",
    b"\0",
    b"\xff\xff\xff\xff",
    b"\xff" * 8,
    b"\x7f\xff\xff\xff",
    b"PK\x01\x02",
    b"-1",
    b"9" * 9,
    b"\xed\xa0\x80",
]
edits = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.integers(0, 9) | st.integers(0, 3000),
        st.sampled_from(TELLING) | st.binary(max_size=12),
    ),
    min_size=1,
    max_size=4,
)


def _edit(content: bytes, changes: list[Edit]) -> bytes:
    for place, taken, put in changes:
        at = int(place * len(content))
        content = content[:at] + put + content[at + taken :]
    return content


def _answers(verify: Callable[..., Any], run: Any, upload: bytes) -> None:
    """A report or a refusal that can be told, and in the latter case no file."""
    with TemporaryDirectory() as folder:
        workspace = Path(folder)
        for name in ("inputs", "outputs"):
            (workspace / name).mkdir()
        (workspace / "inputs" / "upload").write_bytes(upload)
        refusal = None
        try:
            told = verify(run, workspace).model_dump_json()
        except Refusal as error:
            refusal = error.problem
            told = refusal.model_dump_json()
        assert told
        if refusal is not None:
            assert refusal.where, refusal
            assert refusal.hint, refusal
            assert list((workspace / "outputs").iterdir()) == []


@cache
def _checkpoints(forge: Any) -> dict[str, bytes]:
    state = forge.state()
    files = {
        "torch": forge.torch({"state_dict": state, "lr": np.float64(1), "epoch": 3}),
        "safetensors": save(state, {"format": "pt"}),
    }
    with zipfile.ZipFile(io.BytesIO(files["torch"])) as archive:
        files["program"] = archive.read("archive/data.pkl")
    return files


@_fuzz(60)
@given(kind=st.sampled_from(["torch", "safetensors"]), changes=edits)
def test_damaged_checkpoints(forge: Any, model: ModelSpec, kind: str, changes: list[Edit]) -> None:
    _answers(verify_teacher, VerifyTeacherRun(model=model), _edit(_checkpoints(forge)[kind], changes))


@_fuzz(60)
@given(changes=edits)
def test_damaged_headers_of_safetensors(forge: Any, model: ModelSpec, changes: list[Edit]) -> None:
    whole = _checkpoints(forge)["safetensors"]
    length = int.from_bytes(whole[:8], "little")
    header = _edit(whole[8 : 8 + length], changes)
    upload = len(header).to_bytes(8, "little") + header + whole[8 + length :]
    _answers(verify_teacher, VerifyTeacherRun(model=model), upload)


@_fuzz(100)
@given(changes=edits)
def test_damaged_programs_in_whole_files(forge: Any, model: ModelSpec, changes: list[Edit]) -> None:
    """Damage inside the pickle, past the zip's checksums."""
    program = _edit(_checkpoints(forge)["program"], changes)
    storages = {str(i): bytes(40_000) for i in range(45)}
    _answers(verify_teacher, VerifyTeacherRun(model=model), forge.torch_zip(program, **storages))


ALLOWED_NAMES = [
    "torch._utils _rebuild_tensor_v2",
    "collections OrderedDict",
    "torch FloatStorage",
    "numpy dtype",
]
instructions = st.one_of(
    st.sampled_from([code.code.encode("latin1") for code in pickletools.opcodes if code.arg is None]),
    st.sampled_from([f"c{name}\n".replace(" ", "\n").encode() for name in [*ALLOWED_NAMES, "os system"]]),
    st.sampled_from(
        [
            b"K\x01",
            b"J\xff\xff\xff\xff",
            b"X\x01\0\0\0a",
            b"q\0",
            b"h\0",
            b"q\1",
            b"h\1",
            b"U\x01a",
            b"G" + bytes(8),
        ]
    ),
    st.sampled_from(
        [pickle.dumps(("storage", torch.FloatStorage, "0", "cpu", n), 2)[2:-1] + b"Q" for n in (0, 1, 9)]
    ),
)


@_fuzz(160)
@given(program=st.lists(instructions, max_size=25))
def test_random_programs(forge: Any, model: ModelSpec, program: list[bytes]) -> None:
    upload = forge.torch_zip(b"\x80\x02" + b"".join(program) + b".", **{"0": bytes(16)})
    _answers(verify_teacher, VerifyTeacherRun(model=model), upload)


@cache
def _datasets(forge: Any) -> dict[str, bytes]:
    files = forge.folder(train=2, test=1)
    files["train/žába/0.png"] = forge.png(50)
    images = np.arange(6 * 64, dtype=np.uint8).reshape(6, 8, 8)
    labels = np.arange(6, dtype=np.uint8) % 2
    idx = {"train-images-idx3-ubyte": forge.idx(images), "train-labels-idx1-ubyte": forge.idx(labels)}
    return {
        "zip": forge.zip(files),
        "deflated": forge.zip(files, zipfile.ZIP_DEFLATED),
        "tar": forge.tar(files),
        "npz": forge.npz(images=images, labels=labels, classes=["a", "b"]),
        "idx": forge.tar(idx),
        "idx.gz": forge.zip({f"{name}.gz": gzip.compress(body) for name, body in idx.items()}),
    }


@_fuzz(120)
@given(
    kind=st.sampled_from(["zip", "deflated", "tar", "npz", "idx", "idx.gz"]),
    changes=edits,
    gzipped=st.booleans(),
    image_size=st.sampled_from([None, 8]),
)
def test_damaged_datasets(
    forge: Any, kind: str, changes: list[Edit], gzipped: bool, image_size: int | None
) -> None:
    upload = _edit(_datasets(forge)[kind], changes)
    if gzipped and kind in ("tar", "idx"):
        upload = gzip.compress(upload)
    run = VerifyDatasetRun(filename="upload", image_size=image_size, max_bytes=2**20)
    _answers(verify_dataset, run, upload)


@_fuzz(120)
@given(
    changes=edits,
    format=st.sampled_from(["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM"]),
    mode=st.sampled_from(["L", "RGB"]),
    image_size=st.sampled_from([None, 8]),
)
def test_damaged_images_in_whole_archives(
    forge: Any, changes: list[Edit], format: str, mode: str, image_size: int | None
) -> None:
    body = _edit(forge.png(1, (8, 8), mode, format), changes)
    upload = forge.zip({**forge.folder(train=1, test=1), "train/cat/damaged.png": body})
    run = VerifyDatasetRun(filename="upload", image_size=image_size, max_bytes=2**20)
    _answers(verify_dataset, run, upload)


@_fuzz(80)
@given(changes=edits)
def test_damaged_arrays_in_whole_archives(forge: Any, changes: list[Edit]) -> None:
    with zipfile.ZipFile(io.BytesIO(_datasets(forge)["npz"])) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    files["labels.npy"] = _edit(files["labels.npy"], changes)
    _answers(verify_dataset, VerifyDatasetRun(filename="upload", max_bytes=2**20), forge.zip(files))


@pytest.mark.parametrize("verify", [verify_teacher, verify_dataset])
@_fuzz(60)
@given(
    content=st.binary(max_size=600),
    magic=st.sampled_from([b"", b"PK\x03\x04", b"\x1f\x8b\x08", b"\x80\x02", bytes(8) + b"{", b"\x93NUMPY"]),
)
def test_any_bytes(model: ModelSpec, verify: Callable[..., Any], content: bytes, magic: bytes) -> None:
    run = VerifyTeacherRun(model=model) if verify is verify_teacher else VerifyDatasetRun(filename="upload")
    _answers(verify, run, magic + content)
