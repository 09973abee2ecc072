"""All files of the student that a run asks for. One that cannot be made is told, and costs the student nothing."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from abcore.atomic import write_atomically
from abcore.data.batches import Batch
from abcore.evaluate import evaluating, measure
from abcore.events import EventWriter, Note
from abcore.export import int8, onnx
from abcore.export.files import output_file
from abcore.export.finished import FinishedStudent
from abcore.export.pt2 import load_program, program
from abcore.export.weights import rounded_weights, weights
from abcore.progress import Stopped
from abcore.setup import Setup
from abcore.specs.outputs import FORMATS, OutputFormat
from abcore.specs.refusals import Refusal
from abcore.specs.reports import Accuracy, Export, OutputFile

if TYPE_CHECKING:
    from onnx import ModelProto

COMPARED_IMAGES = 256
TOLERANCE = 1e-4
"""Largest difference of a logit between the student and a file that computes in float32, times the largest logit if
that is above 1."""


@dataclass(frozen=True)
class Exported:
    """What became of one format. `run` computes images_BCHW -> logits_BK on the CPU as the file's reader would."""

    record: Export
    file: OutputFile | None = None
    run: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True)
class _Made:
    content: bytes
    run: Callable[[Tensor], Tensor]
    same_figures: bool  # whether it computes what the student computes, up to the order of its sums
    facts: dict[str, str] = field(default_factory=dict)


class Exporter:
    """Writes the files of a run's `outputs` into a folder."""

    def __init__(self, setup: Setup, student: FinishedStudent, folder: Path, events: EventWriter) -> None:
        self._setup = setup
        self._student = student
        self._folder = folder
        self._events = events

    def export_all(self) -> tuple[Exported, ...]:
        """Make, check and write each format that is wanted, in the order of `FORMATS`.

        Raises:
            Stopped: the run was asked to stop; made anew, the files will have the same bytes.
            Refusal: a format that is required cannot be made (`export.failed`).
        """
        return tuple(self._export(name) for name in self._setup.run.outputs.wanted)

    def _export(self, name: OutputFormat) -> Exported:
        if self._setup.should_stop():
            raise Stopped
        try:
            made, record = self._checked(name)
        except Stopped:
            raise
        except Exception as error:  # the exporters' libraries raise what they like
            return self._failed(name, error)
        facts = FORMATS[name]
        path = self._folder / facts.file
        write_atomically(path, made.content)
        return Exported(record, output_file(path, "student", facts.media_type), made.run)

    def _checked(self, name: OutputFormat) -> tuple[_Made, Export]:
        missing = FORMATS[name].missing
        if missing:
            raise ImportError(f"this worker lacks {', '.join(missing)}: install abdistill-server[export]")
        with torch.no_grad():
            made = self._make(name)
            logits_BK = made.run(self._compared_BCHW)
        difference = float((logits_BK - self._expected_BK).abs().max())
        allowed = TOLERANCE * max(1.0, float(self._expected_BK.abs().max()))
        if made.same_figures and not difference <= allowed:  # NaN is refused too
            raise ArithmeticError(
                f"its logits differ from the student's by {difference:.2g}; {allowed:.2g} is allowed"
            )
        teacher, size_bytes = self._setup.teacher_description, len(made.content)
        record = Export(
            format=name,
            file=FORMATS[name].file,
            size_bytes=size_bytes,
            compression=None if teacher is None else teacher.size_bytes / size_bytes,
            largest_difference=difference,
            images_compared=len(logits_BK),
            accuracy={} if made.same_figures else self._accuracy(made.run),
            facts=made.facts,
        )
        return made, record

    def _make(self, name: OutputFormat) -> _Made:
        student = self._student
        match name:
            case "safetensors":
                return _Made(weights(student), student.model, same_figures=True)
            case "safetensors-fp16" | "safetensors-bf16":
                dtype = torch.float16 if name == "safetensors-fp16" else torch.bfloat16
                content, model = rounded_weights(student, dtype)
                return _Made(content, model, same_figures=False)
            case "onnx":
                graph = copy.deepcopy(self._graph)
                content = onnx.serialised(graph, student)
                return _Made(content, onnx.load_graph(content), same_figures=True, facts=onnx.facts(graph))
            case "onnx-int8":
                graph = int8.quantised(copy.deepcopy(self._graph), self._calibration())
                content = onnx.serialised(graph, student)
                return _Made(content, onnx.load_graph(content), same_figures=False, facts=onnx.facts(graph))
            case "pt2":
                content = program(student)
                return _Made(content, load_program(content), same_figures=True)

    def _failed(self, name: OutputFormat, error: Exception) -> Exported:
        lines = str(error).strip().splitlines() or [""]
        reason = f"{type(error).__name__}: {lines[0]}"
        if name in self._setup.run.outputs.required:
            raise Refusal(
                "export.failed",
                f"the student is trained, but {FORMATS[name].file} could not be made: {reason}",
                where="outputs.required",
                value=name,
            ) from error
        message = f"{FORMATS[name].file} could not be made: {reason}"
        self._events.emit(
            Note(level="warning", code="export.failed", message=message, details={"format": name})
        )
        return Exported(Export(format=name, file=None, error=reason))

    @cached_property
    def _graph(self) -> "ModelProto":
        return onnx.graph(self._student)

    @cached_property
    def _compared_BCHW(self) -> Tensor:  # noqa: N802  # a shape
        batches = self._setup.evaluation_batches(most_images=COMPARED_IMAGES)
        return torch.cat([batch.images for batch in _on_cpu(batches)])

    @cached_property
    def _expected_BK(self) -> Tensor:  # noqa: N802  # a shape
        logits_BK: Tensor = self._student.model(self._compared_BCHW)
        return logits_BK

    def _calibration(self) -> Iterator[Tensor]:
        batches = self._setup.evaluation_batches("train", most_images=int8.CALIBRATION_IMAGES)
        return (batch.images for batch in _on_cpu(batches))

    def _accuracy(self, run: Callable[[Tensor], Tensor]) -> dict[str, Accuracy]:
        with evaluating():
            return {
                split: measure(run, _on_cpu(self._setup.evaluation_batches(split))).accuracy
                for split in self._setup.dataset.held_out
            }


def _on_cpu(batches: Iterator[Batch]) -> Iterator[Batch]:
    for batch in batches:
        yield batch._replace(images=batch.images.cpu().contiguous(), labels=batch.labels.cpu())
