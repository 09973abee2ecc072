"""One distillation, from a workspace's inputs to its outputs."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from abcore.caching import choose_answers
from abcore.checkpoints import Checkpoints, Loaded
from abcore.devices import choose_device, describe_device, versions
from abcore.evaluate import agreement, evaluate
from abcore.events import EventWriter, Note, RunStarted
from abcore.export import write_report, write_student
from abcore.phases import Phase, TransferPhase, build_phases
from abcore.setup import Setup, prepare
from abcore.specs.computations import Computation
from abcore.specs.reports import Accuracy, DistillReport, TapSimilarity
from abcore.specs.runs import DistillRun, RunResult
from abcore.team import Team, lead
from abcore.trainer import Trainer


def distill(
    run: DistillRun, workspace: Path, events: EventWriter, should_stop: Callable[[], bool]
) -> RunResult:
    """Train the student of `run`, or go on where an earlier attempt in this workspace was stopped.

    Args:
        run: what to do.
        workspace: the folder described in `abcore.specs.runs`.
        events: told what happens.
        should_stop: asked after each step and each evaluated batch.

    Returns:
        What was written to `outputs/`.

    Raises:
        Stopped: `should_stop` said so; the resume state is in `checkpoints/`.
        Refusal: run and inputs do not fit each other, or training diverged.
    """
    with lead(run.devices, workspace) as team:
        setup, phases, trainer = train(run, workspace, events, should_stop, team)
    report = _report(setup, phases, trainer)
    if setup.teacher is not None:
        setup.teacher.check_unchanged()
    return _publish(setup, report, workspace / "outputs")


def train(
    run: DistillRun, workspace: Path, events: EventWriter, should_stop: Callable[[], bool], team: Team
) -> tuple[Setup, tuple[Phase, ...], Trainer]:
    """Train as one of a team; return what was trained, and by whom. Args, errors: as `distill`."""
    checkpoints = Checkpoints(workspace / "checkpoints")
    damaged: list[str] = []
    earlier = checkpoints.load_newest(damaged.append) if team.leads else None
    if team.leads and earlier is not None:
        # How many threads add up a sum decides its last bits: a machine with more cores must not change the student.
        torch.set_num_threads(earlier.state["threads"])
    device = team.device(choose_device())
    plan = _Plan(None if earlier is None else earlier.path.name, torch.get_num_threads(), None)
    if team.leads:
        setup = prepare(run, workspace, device, should_stop, _recorded(earlier), team)
        team.hear(plan._replace(computation=setup.computation))
    else:
        plan = team.hear(plan)
        torch.set_num_threads(plan.threads)
        setup = prepare(run, workspace, device, should_stop, plan.computation, team)
        earlier = None if plan.checkpoint is None else checkpoints.load(plan.checkpoint)
    events.emit(
        RunStarted(
            device=describe_device(device, run.devices),
            versions=versions(),
            computation=setup.computation,
        )
    )
    for what in damaged:
        events.emit(_bad_checkpoint(what))
    choice = choose_answers(setup)
    if choice.why is not None:
        events.emit(Note(level="info", code="teacher.source", message=choice.why))
    phases = build_phases(setup, choice)
    trainer = Trainer(setup, phases, checkpoints, events)
    trainer.run(earlier)
    return setup, phases, trainer


class _Plan(NamedTuple):
    """What the leader tells the others before they start: they must do all as it does."""

    checkpoint: str | None
    threads: int
    computation: Computation | None


def _recorded(earlier: Loaded | None) -> Computation | None:
    return None if earlier is None else Computation.model_validate(earlier.state["computation"])


def _bad_checkpoint(what: str) -> Note:
    message = f"{what}; training goes on from an older state"
    return Note(level="warning", code="checkpoint.bad", message=message)


def _report(setup: Setup, phases: tuple[Phase, ...], trainer: Trainer) -> DistillReport:
    held_out = [name for name in setup.dataset.splits if name != "train"]
    student_accuracy: dict[str, Accuracy] = {}
    teacher_accuracy: dict[str, Accuracy] = {}
    agreements: dict[str, float] = {}
    for split in held_out:
        of_student = evaluate(setup.student, setup.evaluation_batches(split))
        student_accuracy[split] = of_student.accuracy
        if setup.teacher is not None and setup.same_classes:
            of_teacher = evaluate(setup.teacher.model, setup.evaluation_batches(split))
            teacher_accuracy[split] = of_teacher.accuracy
            agreements[split] = agreement(of_student.predictions, of_teacher.predictions)
    return DistillReport(
        student=setup.student_description,
        teacher=setup.teacher_description,
        student_accuracy=student_accuracy,
        teacher_accuracy=teacher_accuracy,
        agreement=agreements,
        boundary_similarity=_similarities(setup, phases, trainer),
        training_seconds=trainer.seconds,
        computation=setup.computation,
        versions=versions(),
    )


def _similarities(setup: Setup, phases: tuple[Phase, ...], trainer: Trainer) -> tuple[TapSimilarity, ...]:
    transfer = next((phase for phase in phases if isinstance(phase, TransferPhase)), None)
    if transfer is None:
        return ()
    with transfer.open():
        final = transfer.similarity()
    if not final:
        return ()
    before, after = trainer.findings["similarity_before"], trainer.findings["similarity_after"]
    return tuple(
        TapSimilarity(student=pair.student.name, teacher=pair.teacher.name, before=b, after=a, final=f)
        for pair, b, a, f in zip(setup.pairs, before, after, final, strict=True)
    )


def _publish(setup: Setup, report: DistillReport, outputs: Path) -> RunResult:
    outputs.mkdir(exist_ok=True)
    student = write_student(
        outputs / "student.safetensors",
        setup.student,
        model=setup.student_description.spec,
        normalization=setup.run.normalization,
        classes=setup.dataset.report.classes,
        metrics=_metrics(report),
    )
    return RunResult(report=report, files=(student, write_report(outputs / "report.json", report)))


def _metrics(report: DistillReport) -> dict[str, float]:
    """The figures that travel with the student. No times: the same seed shall give the same file."""
    metrics = {}
    for split, accuracy in report.student_accuracy.items():
        metrics[f"{split}/top1"] = accuracy.top1
        metrics[f"{split}/top5"] = accuracy.top5
        metrics[f"{split}/loss"] = accuracy.loss
    for split, share in report.agreement.items():
        metrics[f"{split}/agreement"] = share
    for tap in report.boundary_similarity:
        if tap.final is not None:
            metrics[f"boundary_similarity/{tap.teacher}"] = tap.final
    return metrics
