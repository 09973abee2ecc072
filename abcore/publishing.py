"""What a run leaves in `outputs/`: the student's files, and what is told of it."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from abcore.atomic import write_atomically
from abcore.devices import describe_device
from abcore.evaluate import evaluating
from abcore.events import EventWriter
from abcore.export import output_file
from abcore.export.exporting import Exported, Exporter
from abcore.export.files import OutputKind
from abcore.export.finished import FinishedStudent
from abcore.latency import BATCH_SIZES, Contender, measure_latency
from abcore.outcome import Outcome, Trained, curves, figures, measure_outcome
from abcore.reporting.manifest import make_manifest
from abcore.reporting.page import model_card, report_page
from abcore.specs.complete_report import CompleteReport
from abcore.specs.reports import DistillReport, Latency, OutputFile
from abcore.specs.runs import RunResult


def leave_outputs(trained: Trained, workspace: Path, events: EventWriter) -> RunResult:
    """Measure the student, write it in all formats that were asked for, and write what is told of it.

    Raises:
        Stopped: the run was asked to stop.
        Refusal: the student's loss is not finite, or a required file could not be made.
    """
    outputs = workspace / "outputs"
    outputs.mkdir(exist_ok=True)
    outcome = measure_outcome(trained)
    student = finished_student(trained, outcome.report)
    exported = Exporter(trained.setup, student, outputs, events).export_all()
    report = outcome.report.model_copy(
        update={"exports": tuple(one.record for one in exported), "latency": _latency(trained, exported)}
    )
    complete = _complete(trained, outcome, report)
    files = [one.file for one in exported if one.file is not None]
    manifest = make_manifest(trained, workspace / "inputs", files)
    told: tuple[tuple[str, OutputKind, str, str], ...] = (
        ("report.json", "report", "application/json", complete.model_dump_json(indent=2) + "\n"),
        ("manifest.json", "manifest", "application/json", manifest.model_dump_json(indent=2) + "\n"),
        ("report.html", "report", "text/html; charset=utf-8", report_page(complete)),
        ("README.md", "card", "text/markdown; charset=utf-8", model_card(complete)),
    )
    files += [_write(outputs / name, kind, media_type, text) for name, kind, media_type, text in told]
    return RunResult(report=report, files=tuple(files))


def finished_student(trained: Trained, report: DistillReport) -> FinishedStudent:
    """Return the student of a training, with the figures that travel with it."""
    setup = trained.setup
    return FinishedStudent.of(
        setup.student,
        setup.student_description.spec,
        setup.run.normalization,
        setup.dataset.report.classes,
        figures(report),
    )


def _complete(trained: Trained, outcome: Outcome, report: DistillReport) -> CompleteReport:
    return CompleteReport(
        **dict(report),
        classes=trained.setup.dataset.report.classes,
        confusion={split: tuple(map(tuple, matrix.tolist())) for split, matrix in outcome.confusion.items()},
        curves=curves(trained.history),
        run=trained.setup.run,
        device=describe_device(trained.setup.device),
    )


def _latency(trained: Trained, exported: Sequence[Exported]) -> tuple[Latency, ...]:
    setup, cpu = trained.setup, torch.device("cpu")
    contenders = [Contender("student", "torch", setup.device, setup.student)]
    if setup.teacher is not None:
        contenders.append(Contender("teacher", "torch", setup.device, setup.teacher.model))
    for one in exported:
        if one.file is not None and one.run is not None and not one.record.format.startswith("safetensors"):
            contenders.append(Contender("student", one.file.name, cpu, one.run))
    return tuple(_times(trained, contenders))


def _times(trained: Trained, contenders: Sequence[Contender]) -> Iterator[Latency]:
    setup = trained.setup
    modules = [setup.student] if setup.teacher is None else [setup.student, setup.teacher.model]
    for batch_size in BATCH_SIZES:
        batch = next(setup.evaluation_batches(most_images=batch_size))
        for contender in contenders:
            with evaluating(*modules):
                yield measure_latency(contender, batch.images.to(contender.device))


def _write(path: Path, kind: OutputKind, media_type: str, text: str) -> OutputFile:
    write_atomically(path, text.encode())
    return output_file(path, kind, media_type)
