"""The one training loop: phase by phase, epoch by epoch, step by step; goes on exactly where it was stopped."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from abcore.checkpoints import Checkpoints, Loaded
from abcore.data.batches import Batch
from abcore.events import (
    CheckpointSaved,
    EventWriter,
    Metrics,
    Note,
    PhaseFinished,
    PhaseStarted,
    Resumed,
)
from abcore.meters import Diverged, LossMeter, Pace, Wait
from abcore.micro_batches import MicroBatches
from abcore.optim import build_optimizer, learning_rate, set_learning_rate
from abcore.phases import Phase
from abcore.progress import Itinerary, PhaseLength, Position, Stopped, ends_window
from abcore.restoring import random_state, restore_random_state
from abcore.setup import Setup
from abcore.specs.refusals import Refusal


class Trainer:
    """Trains the student of a setup through its phases.

    `findings` is what the phases wanted remembered, `history` every figure that was told, `seconds` the time spent,
    `data_wait` how long of it steps have waited for their batches; all with those of earlier attempts.
    """

    def __init__(
        self, setup: Setup, phases: Sequence[Phase], checkpoints: Checkpoints, events: EventWriter
    ) -> None:
        self.findings: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []
        self.seconds = 0.0
        self.data_wait = Wait()
        self._setup = setup
        self._team = setup.team
        self._phases = phases
        self._checkpoints = checkpoints
        self._events = events
        self._itinerary = Itinerary(
            [
                PhaseLength(phase.spec.epochs, setup.steps_per_epoch(phase.spec), phase.spec.batch_size)
                for phase in phases
            ]
        )
        self._position = Position()
        self._phase_seconds = 0.0
        self._meter = LossMeter(setup.device)
        self._micro_batches = MicroBatches(setup.device, events.emit, compiles=setup.run.recipe.compile)
        self._optimizer_state: dict[str, Any] | None = None

    def run(self, earlier: Loaded | None) -> None:
        """Train from an earlier attempt's checkpoint, or from the beginning, to the end.

        Raises:
            Stopped: the run was asked to stop; a checkpoint of this very step is on disk.
            Refusal: a loss was not finite (`training.diverged`).
        """
        if earlier is not None:
            self._resume(earlier)
        self._pace = Pace(self._itinerary.num_images, self._itinerary.images_done(self._position))
        self._last_save = self._last_lap = time.monotonic()
        try:
            while not self._itinerary.is_over(self._position):
                phase = self._phases[self._position.phase]
                self._start(phase)
                with phase.open():
                    self._train(phase)
                self._save()
        except Stopped:
            self._save()
            raise

    def _start(self, phase: Phase) -> None:
        self._optimizer = build_optimizer(phase.spec.optimizer, phase.trained.parameters())
        if self._optimizer_state is not None:
            self._optimizer.load_state_dict(self._optimizer_state)
            self._optimizer_state = None
        length = self._length
        self._events.emit(
            PhaseStarted(phase=phase.name, epochs=length.epochs, steps_per_epoch=length.steps_per_epoch)
        )

    def _train(self, phase: Phase) -> None:
        position, spec = self._position, phase.spec
        first_epoch = self._itinerary.first_epoch(position.phase)
        if position.at_phase_start:
            if self._team.leads:
                self.findings |= phase.begin()
            self._team.copy_leaders(phase.trained)
        while position.epoch < spec.epochs and not self._team.hear(phase.has_settled):
            epoch = first_epoch + position.epoch
            for batch in self.data_wait.over(self._setup.training_batches(spec, epoch, position.step)):
                self._step(phase, batch)
                position.step += 1
                self._after_step(phase)
            if self._team.leads:
                self._evaluate(phase)
            position.end_epoch()
            self._save_after(self._setup.run.checkpoint_seconds / 10)
        if position.epoch < spec.epochs:
            self._note_settled(phase)
        if self._team.leads:
            self.findings |= phase.end()
        self._team.copy_leaders(phase.trained)
        self._lap()
        self._events.emit(PhaseFinished(phase=phase.name, seconds=self._phase_seconds))
        self._phase_seconds = 0.0
        self._check_finite()
        position.end_phase()

    def _step(self, phase: Phase, batch: Batch) -> None:
        step = self._itinerary.phase_step(self._position)
        rate = learning_rate(phase.spec.optimizer, phase.spec.schedule, step, self._length.steps)
        set_learning_rate(self._optimizer, rate)
        self._optimizer.zero_grad(set_to_none=True)
        self._team.seed_step(self._setup.run.recipe.seed, self._itinerary.global_step(self._position))
        names, losses = self._micro_batches.backward(phase, batch, step, self._setup.autocast)
        losses = self._team.add_up(phase.trained.parameters(), losses)
        self._optimizer.step()
        self._meter.add(names, losses, step)

    def _after_step(self, phase: Phase) -> None:
        position = self._position
        if ends_window(position.step, self._length.steps_per_epoch):
            self._emit_metrics(phase, self._take_losses(phase))
        phase_step = self._itinerary.phase_step(position)
        progress = self._pace.report(
            phase.name, position.epoch, phase_step, self._itinerary.images_done(position)
        )
        if progress is not None:
            self._events.emit(progress)
        if self._setup.should_stop():
            raise Stopped
        self._save_after(self._setup.run.checkpoint_seconds)

    def _take_losses(self, phase: Phase) -> dict[str, float]:
        rate: float = self._optimizer.param_groups[0]["lr"]
        try:
            return {**self._meter.take(), "learning_rate": rate}
        except Diverged as diverged:
            raise self._diverged(phase, diverged.step) from diverged

    def _diverged(self, phase: Phase, step: int) -> Refusal:
        epoch = step // self._length.steps_per_epoch
        last_good = self._checkpoints.newest()
        kept = (
            "no checkpoint was saved before it"
            if last_good is None
            else f"the last good checkpoint is {last_good.name}, and is kept"
        )
        return Refusal(
            "training.diverged",
            f"the loss of phase {phase.name!r} was no longer finite at step {step} (epoch {epoch}); {kept}",
            where=f"recipe.{phase.name}.optimizer.learning_rate",
            value=phase.spec.optimizer.learning_rate,
            hint="Take a lower learning rate or a warm-up (schedule.warmup_fraction); with `bf16`, try `fp32`.",
        )

    def _evaluate(self, phase: Phase) -> None:
        epoch = self._position.epoch + 1
        if epoch % self._setup.run.recipe.evaluate_every == 0 or epoch == phase.spec.epochs:
            self._emit_metrics(phase, phase.evaluate())

    def _emit_metrics(self, phase: Phase, values: dict[str, float]) -> None:
        step = self._itinerary.phase_step(self._position)
        told = {"phase": phase.name, "epoch": self._position.epoch, "step": step, "values": values}
        self._events.emit(Metrics.model_validate(told))
        self.history.append(told)

    @property
    def _length(self) -> PhaseLength:
        return self._itinerary.lengths[self._position.phase]

    def _lap(self) -> None:
        now = time.monotonic()
        self.seconds += now - self._last_lap
        self._phase_seconds += now - self._last_lap
        self._last_lap = now

    def _save_after(self, seconds: float) -> None:
        if time.monotonic() - self._last_save >= seconds:
            self._save()

    def _save(self) -> None:
        if not self._team.leads:
            return
        self._lap()
        position = self._position
        if not position.at_phase_start:
            self._check_finite()
        state = {
            "computation": self._setup.computation.model_dump(),
            "position": asdict(position),
            "modules": self._setup.trained.state_dict(),
            "optimizer": None if position.at_phase_start else self._optimizer.state_dict(),
            "meter": self._meter.state_dict(),
            "random": random_state(self._setup.device),
            "halvings": self._micro_batches.own_halvings,
            "threads": torch.get_num_threads(),
            "findings": self.findings,
            "history": self.history,
            "memories": [phase.memory for phase in self._phases],
            "seconds": self.seconds,
            "data_wait_seconds": self.data_wait.seconds,
            "phase_seconds": self._phase_seconds,
        }
        saved = self._checkpoints.save(self._itinerary.global_step(position), state)
        self._events.emit(
            CheckpointSaved(
                file=f"{saved.path.parent.name}/{saved.path.name}",
                **self._place(),
                global_step=self._itinerary.global_step(position),
                size_bytes=saved.size_bytes,
                sha256=saved.sha256,
            )
        )
        self._last_save = time.monotonic()

    def _check_finite(self) -> None:
        """Save nothing that is not worth going on from: a run that diverges keeps what it had before."""
        phase = self._phases[self._position.phase]
        bad_step = self._meter.first_bad_step()
        if bad_step is None and not _all_finite(phase.trained.parameters()):
            bad_step = self._itinerary.phase_step(self._position)
        if bad_step is not None:
            raise self._diverged(phase, bad_step)

    def _resume(self, loaded: Loaded) -> None:
        state = loaded.state
        self._position = Position(**state["position"])
        self._setup.trained.load_state_dict(state["modules"])
        self._optimizer_state = state["optimizer"]
        self._meter.load_state_dict(state["meter"])
        restore_random_state(state["random"], self._setup.device)
        self._micro_batches.own_halvings = state["halvings"]
        self.findings, self.history = state["findings"], state["history"]
        for phase, memory in zip(self._phases, state["memories"], strict=True):
            phase.memory = memory
        self.seconds, self._phase_seconds = state["seconds"], state["phase_seconds"]
        self.data_wait.seconds = state["data_wait_seconds"]
        self._events.emit(
            Resumed(
                checkpoint=loaded.path.name,
                **self._place(),
            )
        )

    def _place(self) -> dict[str, Any]:
        """Where training is, as records tell it."""
        position, over = self._position, self._itinerary.is_over(self._position)
        return {
            "phase": self._phases[-1 if over else position.phase].name,
            "epoch": self._itinerary.lengths[-1].epochs if over else position.epoch,
            "step": self._itinerary.phase_step(position),
        }

    def _note_settled(self, phase: Phase) -> None:
        message = f"phase {phase.name} ends after {self._position.epoch} of {phase.spec.epochs} epochs: no better top-1"
        self._events.emit(Note(level="info", code="training.settled", message=message))


def _all_finite(parameters: Iterable[Tensor]) -> bool:
    largest = torch.stack([parameter.detach().abs().max() for parameter in parameters])
    return bool(largest.isfinite().all())
