"""The student's files compute what the student computes, read by others' libraries, on real digits."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from sklearn.datasets import load_digits
from torch import Tensor, nn

from abcore.architectures import build_model
from abcore.data.dataset import ImageDataset, Split, save_dataset
from abcore.distillation import distill
from abcore.events import EventWriter
from abcore.export import exporting, int8
from abcore.export import onnx as onnx_export
from abcore.export.finished import FinishedStudent
from abcore.export.pt2 import load_program, program
from abcore.specs.architectures import ImageShape, ModelSpec, Normalization, Torchvision, WideResNet
from abcore.specs.outputs import FORMATS, Outputs
from abcore.specs.recipes import Augmentation, Finetune, Recipe
from abcore.specs.refusals import Refusal
from abcore.specs.reports import DatasetReport, DistillReport, Export, SplitReport
from abcore.specs.runs import DistillRun

MakeBench = Callable[..., Any]
NORMALIZATION = Normalization(mean=(0.3,), std=(0.37,))


@dataclass(frozen=True)
class Made:
    """What a job left that was asked for every format, and the images that its files are tried on."""

    outputs: Path
    report: DistillReport
    images: Tensor
    labels: Tensor
    student: nn.Module

    def export(self, name: str) -> Export:
        return next(export for export in self.report.exports if export.format == name)

    def accuracy(self, logits_BK: Tensor) -> float:
        return float((logits_BK.argmax(1) == self.labels).float().mean())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A WRN-10-1 trained on 1,437 digits, in all formats; 360 digits that it has not seen."""
    workspace = tmp_path_factory.mktemp("all-formats")
    (workspace / "inputs").mkdir()
    digits = load_digits()
    images = torch.from_numpy(digits.images * (255 / 16)).round().to(torch.uint8)[:, None]
    labels = torch.from_numpy(digits.target).long()
    splits = {"train": Split(images[:1437], labels[:1437]), "test": Split(images[1437:], labels[1437:])}
    counts = {
        name: SplitReport(
            num_images=len(split), class_counts=tuple(split.labels.bincount(minlength=10).tolist())
        )
        for name, split in splits.items()
    }
    report = DatasetReport(
        format="npz",
        image=ImageShape(channels=1, height=8, width=8),
        classes=tuple("0123456789"),
        splits=counts,
        normalization=NORMALIZATION,
    )
    save_dataset(workspace / "inputs" / "dataset.safetensors", ImageDataset(splits, report))
    run = DistillRun(
        student=WideResNet(arch="wide_resnet", depth=10, width=1),
        teacher=None,
        normalization=NORMALIZATION,
        recipe=Recipe(
            transfer=None,
            finetune=Finetune(epochs=5, batch_size=64, kd_weight=0, cross_entropy_weight=1),
            augmentation=Augmentation(crop_padding=1, horizontal_flip=False),
        ),
        outputs=Outputs(required=tuple(FORMATS)),
    )
    torch.set_num_threads(1)
    events = EventWriter(workspace / "events.jsonl")
    try:
        result = distill(run, workspace, events, lambda: False)
    finally:
        events.close()
    assert isinstance(result.report, DistillReport)
    path = workspace / "outputs" / "student.safetensors"
    with safe_open(path, framework="pt") as file:
        student = build_model(ModelSpec.model_validate_json(file.metadata()["model"])).eval()
    student.load_state_dict(load_file(path))
    student.requires_grad_(False)
    images_BCHW = (splits["test"].images.float() / 255 - NORMALIZATION.mean[0]) / NORMALIZATION.std[0]
    return Made(workspace / "outputs", result.report, images_BCHW, splits["test"].labels, student)


def run_onnx(path: Path, images_BCHW: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (logits_BK,) = session.run(["logits"], {"images": images_BCHW.numpy()})
    return torch.from_numpy(logits_BK)


@pytest.mark.parametrize("num_images", [1, 256])
def test_onnx_and_pt2_agree_with_the_student(made: Made, num_images: int) -> None:
    images_BCHW = made.images[:num_images]
    expected_BK = made.student(images_BCHW)
    of_onnx_BK = run_onnx(made.outputs / "student.onnx", images_BCHW)
    of_pt2_BK = torch.export.load(made.outputs / "student.pt2").module()(images_BCHW)
    assert float((of_onnx_BK - expected_BK).abs().max()) <= 1e-4
    assert float((of_pt2_BK - expected_BK).abs().max()) <= 1e-4
    assert float((run_onnx(made.outputs / "student.onnx", -images_BCHW) - expected_BK).abs().max()) > 1


def test_int8_is_small_and_as_accurate(made: Made) -> None:
    small, whole = made.outputs / "student.int8.onnx", made.outputs / "student.safetensors"
    assert small.stat().st_size <= 0.30 * whole.stat().st_size
    of_int8, of_student = (
        made.accuracy(run_onnx(small, made.images)),
        made.accuracy(made.student(made.images)),
    )
    assert of_student > 0.9
    assert of_int8 >= of_student - 0.01
    assert made.export("onnx-int8").accuracy["test"].top1 == pytest.approx(of_int8, abs=0.006)
    kinds = {
        onnx.TensorProto.DataType.Name(tensor.data_type) for tensor in onnx.load(small).graph.initializer
    }
    assert "INT8" in kinds


@pytest.mark.parametrize(("name", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_rounded_weights_are_half_the_size_and_load_into_the_student(
    made: Made, name: str, dtype: torch.dtype
) -> None:
    path = made.outputs / f"student.{name}.safetensors"
    assert path.stat().st_size < 0.52 * (made.outputs / "student.safetensors").stat().st_size
    state = load_file(path)
    assert {tensor.dtype for tensor in state.values()} == {dtype, torch.int64}
    rounded = build_model(made.report.student.spec).eval()
    rounded.load_state_dict(state)
    export = made.export(f"safetensors-{name}")
    assert made.accuracy(rounded(made.images)) == pytest.approx(export.accuracy["test"].top1, abs=1e-6)


def test_the_report_tells_of_each_file_what_it_is(made: Made) -> None:
    assert [export.format for export in made.report.exports] == list(FORMATS)
    for export in made.report.exports:
        assert export.file is not None
        assert export.size_bytes == (made.outputs / export.file).stat().st_size
        assert export.images_compared == 256
    for name in ("safetensors", "onnx", "pt2"):
        assert made.export(name).largest_difference is not None
        assert made.export(name).largest_difference <= 1e-4  # type: ignore[operator]  # see above
    opset = onnx.load(made.outputs / "student.onnx").opset_import[0].version
    assert made.export("onnx").facts == {"opset": str(opset), "input": "images", "output": "logits"}
    timed = {(row.runtime, row.batch_size) for row in made.report.latency}
    assert timed == {
        (runtime, size)
        for runtime in ("torch", "student.onnx", "student.int8.onnx", "student.pt2")
        for size in (1, 32)
    }
    assert all(row.median_seconds > 0 for row in made.report.latency)


def test_every_file_carries_what_is_needed_to_use_it(made: Made) -> None:
    expected = {"classes": list("0123456789"), "normalization": NORMALIZATION.model_dump(mode="json")}
    for name in ("student.onnx", "student.int8.onnx"):
        entries = {entry.key: entry.value for entry in onnx.load(made.outputs / name).metadata_props}
        assert {key: json.loads(entries[key]) for key in expected} == expected
    extra = dict.fromkeys(expected, "")
    torch.export.load(made.outputs / "student.pt2", extra_files=extra)
    assert {key: json.loads(extra[key]) for key in expected} == expected


def test_files_name_nothing_of_the_machine_that_made_them(made: Made) -> None:
    folder = str(Path(exporting.__file__).parents[2]).encode()
    for path in made.outputs.glob("student*"):
        assert folder not in path.read_bytes(), path.name


def test_a_file_that_cannot_be_made_is_told_and_costs_nothing(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> bytes:
        raise RuntimeError("an operator that no one knows\nand a long story")

    monkeypatch.setattr(exporting, "program", broken)
    bench = make_bench(outputs=Outputs(formats=("pt2",)))
    report = bench.distill().report
    (export,) = (export for export in report.exports if export.format == "pt2")
    assert (export.file, export.error) == (None, "RuntimeError: an operator that no one knows")
    assert [(note.level, note.code) for note in bench.events("note") if note.level == "warning"] == [
        ("warning", "export.failed")
    ]
    assert not (bench.workspace / "outputs" / "student.pt2").exists()


def test_a_file_that_computes_otherwise_is_not_kept_and_a_required_one_is_demanded(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        exporting, "load_program", lambda _: lambda images_BCHW: torch.zeros(len(images_BCHW), 10)
    )
    bench = make_bench(outputs=Outputs(required=("pt2",)))
    with pytest.raises(Refusal, match="its logits differ from the student's by") as caught:
        bench.distill()
    assert caught.value.problem.code == "export.failed"
    assert not (bench.workspace / "outputs" / "student.pt2").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenet_v2", "shufflenet_v2_x0_5", "efficientnet_b0", "convnext_tiny"]
)
def test_networks_of_the_zoo_are_exported(name: str) -> None:
    spec = ModelSpec(
        architecture=Torchvision(arch="torchvision", name=name),
        image=ImageShape(channels=3, height=64, width=64),
        num_classes=5,
    )
    torch.manual_seed(0)
    student = FinishedStudent.of(
        build_model(spec), spec, Normalization(mean=(0.5,) * 3, std=(0.3,) * 3), tuple("abcde"), {}
    )
    images_BCHW = torch.randn(7, 3, 64, 64)
    expected_BK = student.model(images_BCHW)
    graph = onnx_export.graph(student)
    small = int8.quantised(onnx.load(io.BytesIO(graph.SerializeToString())), [images_BCHW])
    whole = onnx_export.serialised(graph, student)
    assert torch.allclose(onnx_export.load_graph(whole)(images_BCHW), expected_BK, atol=1e-4)
    assert torch.allclose(load_program(program(student))(images_BCHW), expected_BK, atol=1e-4)
    content = onnx_export.serialised(small, student)
    assert len(content) < 0.35 * len(whole)
    assert onnx_export.load_graph(content)(images_BCHW).shape == (7, 5)
