"""One distillation, from a workspace's inputs to its outputs."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from abcore.caching import choose_answers
from abcore.checkpoints import Checkpoints, Loaded
from abcore.devices import choose_device, describe_device, gpu_is_passed_over, versions, why_no_gpu
from abcore.events import AnswersWanted, EventWriter, Note, RunStarted
from abcore.outcome import Trained
from abcore.phases import build_phases
from abcore.publishing import leave_outputs
from abcore.setup import prepare
from abcore.specs.computations import Computation
from abcore.specs.recipes import Recipe
from abcore.specs.runs import DistillRun, RunResult
from abcore.team import Team, lead
from abcore.trainer import Trainer


def distill(
    run: DistillRun, workspace: Path, events: EventWriter, should_stop: Callable[[], bool]
) -> RunResult:
    """Train the student of `run`, or go on where an earlier attempt in this workspace was stopped; leave its files.

    Args:
        run: what to do.
        workspace: the folder described in `abcore.specs.runs`.
        events: told what happens.
        should_stop: asked after each step and each evaluated batch.

    Returns:
        What was written to `outputs/`.

    Raises:
        Stopped: `should_stop` said so; the resume state is in `checkpoints/`.
        Refusal: run and inputs do not fit each other, training diverged, or a required file could not be made.
    """
    with lead(run.devices, workspace) as team:
        trained = train(run, workspace, events, should_stop, team)
    return leave_outputs(trained, workspace, events)


def train(
    run: DistillRun, workspace: Path, events: EventWriter, should_stop: Callable[[], bool], team: Team
) -> Trained:
    """Train to the end as one of a team, and leave no file but checkpoints. Args, errors: as `distill`."""
    checkpoints = Checkpoints(workspace / "checkpoints")
    damaged: list[str] = []
    earlier = checkpoints.load_newest(damaged.append) if team.leads else None
    threads = run.threads if earlier is None else earlier.state["threads"]
    if team.leads and threads is not None:
        # How many add up a sum decides its last bits: a machine with more cores must not change the student.
        torch.set_num_threads(threads)
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
    if gpu_is_passed_over(device):
        message = f"This worker has a GPU, and torch cannot use it ({why_no_gpu()}): training is on the CPU."
        events.emit(Note(level="warning", code="device.no_gpu", message=message))
    for what in damaged:
        events.emit(_bad_checkpoint(what))
    choice = choose_answers(setup, 0 if earlier is None else _epochs_done(run.recipe, earlier))
    if choice.why is not None:
        events.emit(Note(level="info", code="teacher.source", message=choice.why))
    if choice.elsewhere:
        events.emit(AnswersWanted(files=tuple(file.path.name for file in choice.elsewhere)))
    phases = build_phases(setup, choice)
    trainer = Trainer(setup, phases, checkpoints, events)
    try:
        trainer.run(earlier)
    finally:
        if choice.outcome is not None:
            events.emit(choice.outcome)
    return Trained(
        setup,
        phases,
        choice,
        trainer.findings,
        trainer.history,
        trainer.seconds,
        trainer.data_wait.seconds,
    )


class _Plan(NamedTuple):
    """What the leader tells the others before they start: they must do all as it does."""

    checkpoint: str | None
    threads: int
    computation: Computation | None


def _recorded(earlier: Loaded | None) -> Computation | None:
    return None if earlier is None else Computation.model_validate(earlier.state["computation"])


def _epochs_done(recipe: Recipe, earlier: Loaded) -> int:
    phases = [phase.epochs for phase in (recipe.transfer, recipe.finetune) if phase is not None]
    position = earlier.state["position"]
    return sum(phases[: position["phase"]]) + int(position["epoch"])


def _bad_checkpoint(what: str) -> Note:
    message = f"{what}; training goes on from an older state"
    return Note(level="warning", code="checkpoint.bad", message=message)
