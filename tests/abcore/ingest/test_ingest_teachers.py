"""Teachers that are good, or honest mistakes: what is accepted, how it is renamed, and what a user is told."""

import argparse
import os
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save

from abcore.architectures import build_model, build_on_meta
from abcore.events import EventReader, Failed
from abcore.specs.architectures import ImageShape, ModelSpec, Torchvision, WideResNet
from abcore.specs.runs import ExitCode, VerifyTeacherRun


def _written(room: Any) -> dict[str, torch.Tensor]:
    return load_file(room.outputs / "teacher.safetensors")


def _assert_equal(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert tensor.dtype == right[name].dtype, name
        assert torch.equal(tensor, right[name]), name


def _changed(model: ModelSpec, **changes: Any) -> ModelSpec:
    return ModelSpec.model_validate({**model.model_dump(), **changes})


def test_a_state_dict_of_torch_comes_back_bit_for_bit_with_its_spec(
    forge: Any, room: Any, model: ModelSpec
) -> None:
    report = room.accept_teacher(forge.torch(forge.state()))
    _assert_equal(_written(room), forge.state())
    with safe_open(room.outputs / "teacher.safetensors", framework="pt") as file:
        assert ModelSpec.model_validate_json(file.metadata()["model"]) == model
    assert (report.format, report.dtype, report.renames) == ("torch", "float32", ())
    assert report.description.num_parameters == sum(p.numel() for p in build_model(model).parameters())


def test_a_safetensors_file_comes_back_bit_for_bit(forge: Any, room: Any) -> None:
    report = room.accept_teacher(save(forge.state(), {"format": "pt", "author": "someone"}))
    _assert_equal(_written(room), forge.state())
    assert report.format == "safetensors"


def test_the_same_upload_gives_the_same_bytes(forge: Any, tmp_path: Path, room: Any) -> None:
    upload = forge.torch(forge.state())
    files = []
    for name in ("a", "b"):
        room = type(room)(tmp_path / name / "workspace")
        room.accept_teacher(upload)
        files.append((room.outputs / "teacher.safetensors").read_bytes())
    assert files[0] == files[1]


def test_a_real_training_checkpoint_is_unwrapped(forge: Any, room: Any, model: ModelSpec) -> None:
    """Optimizer, epoch, arguments, numpy figures and two wrappers around the network, as scripts save them."""
    net = build_model(model)
    optimizer = torch.optim.AdamW([{"params": [p]} for p in net.parameters()], lr=0.1, betas=(0.9, 0.99))
    net(torch.rand(4, 1, 8, 8)).sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    checkpoint = {
        "epoch": 3,
        "args": argparse.Namespace(lr=0.1, device=torch.device("cpu"), sizes=(32, 32), dtype=torch.float32),
        "best": np.float64(0.93),
        "loss": np.float32(0.5),
        "step": np.int64(2**40),
        "mean": torch.rand(3).half(),
        "history": [(1, 0.5), (2, 0.25)] * 50,
        "model_state_dict": {f"module._orig_mod.{name}": t for name, t in net.state_dict().items()},
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
    }
    report = room.accept_teacher(forge.torch(checkpoint))
    _assert_equal(_written(room), net.state_dict())
    assert report.renames == ("model_state_dict → (top)", "module.* → *", "_orig_mod.* → *")


@pytest.mark.parametrize(
    "nest", ["state_dict", "model", "net", "ema", "network", "weights", "model_ema", "state_dict_ema"]
)
def test_usual_nests_are_opened(forge: Any, room: Any, nest: str) -> None:
    report = room.accept_teacher(forge.torch({nest: forge.state(), "epoch": 1}))
    assert report.renames == (f"{nest} → (top)",)


def test_nests_within_nests_are_opened(forge: Any, room: Any) -> None:
    report = room.accept_teacher(forge.torch({"ema": {"state_dict": OrderedDict(forge.state())}}))
    assert report.renames == ("ema → (top)", "state_dict → (top)")


def test_a_prefix_is_undone_in_safetensors_too(forge: Any, room: Any) -> None:
    upload = save({f"module.{name}": tensor for name, tensor in forge.state().items()})
    assert room.accept_teacher(upload).renames == ("module.* → *",)
    _assert_equal(_written(room), forge.state())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_become_float32_and_the_report_says_so(
    forge: Any, room: Any, dtype: torch.dtype
) -> None:
    state = {k: t.to(dtype) if t.is_floating_point() else t for k, t in forge.state().items()}
    report = room.accept_teacher(forge.torch(state))
    assert report.dtype == str(dtype).removeprefix("torch.")
    written = _written(room)
    assert written["fc.weight"].dtype == torch.float32
    assert torch.equal(written["fc.weight"], state["fc.weight"].float())


def test_counters_of_batches_may_be_missing(forge: Any, room: Any) -> None:
    state = {k: t for k, t in forge.state().items() if not k.endswith("num_batches_tracked")}
    room.accept_teacher(forge.torch(state))
    assert _written(room)["bn1.num_batches_tracked"] == 0


def test_tensors_that_share_memory_or_are_views_are_written_in_full(forge: Any, room: Any) -> None:
    state = forge.state()
    whole = torch.rand(2, *state["fc.weight"].shape)
    state["fc.weight"] = whole[1].T.contiguous().T
    room.accept_teacher(forge.torch(state))
    assert torch.equal(_written(room)["fc.weight"], state["fc.weight"])


def test_a_torchvision_checkpoint_is_accepted_and_its_description_reported(forge: Any, room: Any) -> None:
    spec = ModelSpec(
        architecture=Torchvision(arch="torchvision", name="resnet18", stem="imagenet"),
        image=ImageShape(channels=3, height=32, width=32),
        num_classes=5,
    )
    report = room.accept_teacher(forge.torch({"state_dict": forge.state(spec)}), spec)
    assert report.description.num_parameters == 11_179_077


def test_another_number_of_classes_is_named(forge: Any, room: Any, model: ModelSpec) -> None:
    problem = room.refuse_teacher(forge.torch(forge.state()), _changed(model, num_classes=10))
    assert problem.code == "checkpoint.mismatch"
    assert "fc.weight: checkpoint (3, 64), architecture (10, 64)" in problem.message
    assert problem.hint == "The checkpoint has 3 classes and `model.num_classes` says 10: set it to 3."


def test_other_channels_are_named(forge: Any, room: Any, model: ModelSpec) -> None:
    spec = _changed(model, image={"channels": 3, "height": 8, "width": 8})
    problem = room.refuse_teacher(forge.torch(forge.state()), spec)
    assert problem.hint is not None
    assert "takes images of 1 channels and `model.image.channels` says 3: set it to 1" in problem.hint


def test_another_width_is_named_with_counts_and_the_first_ten(
    forge: Any, room: Any, model: ModelSpec
) -> None:
    spec = _changed(model, architecture=WideResNet(arch="wide_resnet", depth=10, width=2).model_dump())
    problem = room.refuse_teacher(forge.torch(forge.state()), spec)
    assert (
        "block1.layer.0.conv1.weight: checkpoint (16, 16, 3, 3), architecture (32, 16, 3, 3)"
        in problem.message
    )
    assert len(problem.value["other shape"]) == 10
    assert (
        problem.hint
        == "Check `model.architecture`: family, depth, width and stem must be those of the checkpoint."
    )


def test_another_depth_is_named_by_missing_and_unexpected_keys(
    forge: Any, room: Any, model: ModelSpec
) -> None:
    deeper = _changed(model, architecture=WideResNet(arch="wide_resnet", depth=16, width=1).model_dump())
    problem = room.refuse_teacher(forge.torch(forge.state()), deeper)
    missing = forge.state(deeper).keys() - forge.state().keys()
    missing = {name for name in missing if not name.endswith("num_batches_tracked")}
    assert f"{len(missing)} missing (block1.layer.1" in problem.message
    assert len(problem.value["missing"]) == 10
    assert set(problem.value["missing"]) < missing


def test_another_stem_is_named_by_its_shapes(forge: Any, room: Any) -> None:
    spec = {
        "architecture": {"arch": "torchvision", "name": "resnet18", "stem": "imagenet"},
        "image": {"channels": 3, "height": 32, "width": 32},
        "num_classes": 5,
    }
    upload = forge.torch(forge.state(ModelSpec.model_validate(spec)))
    spec["architecture"]["stem"] = "small"  # type: ignore[index]  # a plain mapping of mappings
    problem = room.refuse_teacher(upload, ModelSpec.model_validate(spec))
    assert "conv1.weight: checkpoint (64, 3, 7, 7), architecture (64, 3, 3, 3)" in problem.message
    assert problem.hint == "Check `model.architecture`: width and stem must be those of the checkpoint."


def test_another_family_is_named_by_its_keys(forge: Any, room: Any, model: ModelSpec) -> None:
    spec = _changed(model, architecture={"arch": "torchvision", "name": "mobilenet_v2"})
    problem = room.refuse_teacher(forge.torch(forge.state()), spec)
    assert "missing" in problem.message
    assert "unexpected" in problem.message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused_by_name(forge: Any, room: Any, value: float) -> None:
    state = forge.state()
    state["block2.layer.0.conv1.weight"][1, 2, 0, 0] = value
    problem = room.refuse_teacher(forge.torch(state))
    assert (problem.code, problem.where) == (
        "checkpoint.not_finite",
        "checkpoint:block2.layer.0.conv1.weight",
    )


def test_values_that_overflow_float32_are_refused(forge: Any, room: Any) -> None:
    state = forge.state() | {"fc.bias": torch.tensor([1e300, 0, 0], dtype=torch.float64)}
    assert room.refuse_teacher(forge.torch(state)).code == "checkpoint.not_finite"


def test_weights_that_fit_but_give_no_finite_answer_are_refused(forge: Any, room: Any) -> None:
    state = forge.state()
    state["bn1.running_var"].fill_(-1)
    assert room.refuse_teacher(forge.torch(state)).code == "checkpoint.no_answer"


def test_whole_numbers_in_the_place_of_weights_are_refused(forge: Any, room: Any) -> None:
    state = forge.state()
    state["fc.weight"] = torch.zeros_like(state["fc.weight"], dtype=torch.int8)
    problem = room.refuse_teacher(forge.torch(state))
    assert (problem.code, problem.value) == ("checkpoint.unsupported_tensor", "torch.int8")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"epoch": 3, "loss": 0.5}, "a mapping with the keys ['epoch', 'loss']"),
        ({}, "a mapping with the keys []"),
        ([torch.zeros(2)], "an object of type list"),
        (torch.zeros(2), "an object of type Tensor"),
        ({"model": {"model": {"model": {"model": {"model": {}}}}}}, "a mapping with the keys ['model']"),
    ],
)
def test_a_checkpoint_without_a_state_dict_is_refused_with_what_it_holds(
    forge: Any, room: Any, content: Any, said: str
) -> None:
    problem = room.refuse_teacher(forge.torch(content))
    assert problem.code == "checkpoint.no_state_dict"
    assert said in problem.message


def test_keys_that_no_encoding_can_write_do_not_break_the_report(forge: Any, room: Any) -> None:
    problem = room.refuse_teacher(forge.torch({"\ud800": torch.zeros(1), "k" * 100_000: torch.zeros(1)}))
    assert "\\ud800" in problem.message


def test_a_whole_module_is_refused_with_its_class_and_the_way_to_save_it(
    forge: Any, room: Any, model: ModelSpec
) -> None:
    problem = room.refuse_teacher(forge.torch(build_model(model)))
    assert problem.code == "checkpoint.foreign_object"
    assert "torch.save(model.state_dict()" in str(problem.hint)


def test_a_checkpoint_of_the_old_format_is_refused_with_the_way_out(forge: Any, room: Any) -> None:
    problem = room.refuse_teacher(forge.torch(forge.state(), _use_new_zipfile_serialization=False))
    assert problem.code == "checkpoint.legacy"
    assert "torch.save(torch.load(file)" in str(problem.hint)


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_another_pickle_protocol_is_refused_with_the_way_out(forge: Any, room: Any, protocol: int) -> None:
    problem = room.refuse_teacher(forge.torch(forge.state(), pickle_protocol=protocol))
    assert (problem.code, problem.value) == ("checkpoint.pickle_protocol", f"protocol {protocol}")


def test_a_torchscript_program_is_refused(room: Any, tmp_path: Path) -> None:
    class Doubling(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2

    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that TorchScript is on its way out; such files are about
        torch.jit.trace(Doubling(), torch.ones(1)).save(str(tmp_path / "program.pt"))
    assert room.refuse_teacher((tmp_path / "program.pt").read_bytes()).code == "checkpoint.torchscript"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "an empty file"),
        (b"hello\nworld", 'text ("hello\\nworld" ...)'),
        (b'{"weights": [1, 2]}', "text"),
        (b"\x89PNG\r\n\x1a\n" + bytes(64), "a PNG image"),
        (b"\xff\xd8\xff\xe0" + bytes(64), "a JPEG image"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"\x7fELF" + bytes(64), "an executable program"),
        (b"GGUF" + bytes(64), "a GGUF model"),
        (b"\x93NUMPY\x01\x00", "a single .npy array"),
        (b"\x1f\x8b" + bytes(64), "a gzip file"),
        (b"\x00\x01\x02\x03\xfe\xff" * 10, "unknown bytes (00 01 02 03 fe ff 00 01 ...)"),
    ],
)
def test_another_kind_of_file_is_refused_with_what_it_looks_like(
    room: Any, content: bytes, said: str
) -> None:
    problem = room.refuse_teacher(content)
    assert problem.code == "checkpoint.unknown_format"
    assert said in problem.message


def test_a_tar_archive_is_refused_as_such(forge: Any, room: Any) -> None:
    assert "a tar archive" in room.refuse_teacher(forge.tar({"a": b"b"})).message


def test_a_zip_that_is_no_checkpoint_is_refused_as_such(forge: Any, room: Any) -> None:
    assert room.refuse_teacher(forge.zip({"weights.bin": b"1234"})).code == "checkpoint.not_torch"


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.7, 0.99])
@pytest.mark.parametrize("kind", ["torch", "safetensors"])
def test_a_truncated_file_is_refused(forge: Any, room: Any, kind: str, kept: float) -> None:
    upload = forge.torch(forge.state()) if kind == "torch" else save(forge.state())
    problem = room.refuse_teacher(upload[: int(len(upload) * kept)])
    assert problem.code in ("checkpoint.damaged", "checkpoint.forged")


def test_too_little_memory_is_a_refusal_in_a_real_child(forge: Any, room: Any, model: ModelSpec) -> None:
    """The child under an address-space limit, as the guardian starts it: no crash, no retry, a reason."""
    large = ModelSpec.model_validate(
        {**model.model_dump(), "architecture": {"arch": "wide_resnet", "depth": 28, "width": 20}}
    )
    state = {
        name: torch.zeros(()).expand(tensor.shape)
        for name, tensor in build_on_meta(large).state_dict().items()
    }
    counters = {name: torch.tensor(0) for name in state if name.endswith("num_batches_tracked")}
    (room.path / "inputs" / "upload").write_bytes(forge.torch(state | counters))
    (room.path / "run.json").write_text(VerifyTeacherRun(model=large).model_dump_json())
    limited = (
        "import resource, sys; import torch; from abcore.run import main;"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize();"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 300 * 2**20,) * 2);"
        f"sys.exit(main([{str(room.path)!r}]))"
    )
    child = subprocess.run(
        [sys.executable, "-c", limited],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == ExitCode.REFUSED, child.stderr
    (failed,) = EventReader(room.path / "events.jsonl").read()
    assert isinstance(failed, Failed)
    assert failed.problems[0].code == "upload.too_large_to_read"
