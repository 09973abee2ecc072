"""How the passes of a phase that repeats itself are taken: compiled on request, replayed on a GPU if that is faster."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Literal

import torch
from torch import Tensor

from abcore.compiling import CompiledLosses
from abcore.data.batches import Batch
from abcore.events import Note
from abcore.memory import is_out_of_memory
from abcore.phases import Look, Phase
from abcore.recording import Recording, fastest_seconds
from abcore.restoring import Before

FIRST_STEPS = 20
"""Steps of a phase before its pass is recorded, which costs some twenty passes: a shorter one is not worth it."""

Autocast = Callable[[], AbstractContextManager[None]]
Losses = Callable[[Look], dict[str, Tensor]]
Taken = tuple[tuple[str, ...], Tensor]
"""The losses' names and values (L,), detached."""


def take_pass(losses: Losses, look: Look, autocast: Autocast, share: float = 1.0) -> Taken:
    """Add the gradient of `share` times the losses to the parameters of the phase; return the losses times `share`."""
    with autocast():
        made = losses(look)
    values = torch.stack(list(made.values()))
    if share != 1.0:
        values = values * share
    torch.autograd.backward(values.sum())
    return tuple(made), values.detach()


class RecordedPass:
    """Forward and backward pass over batches of one shape. Leaves the phase as it was."""

    def __init__(self, phase: Phase, look: Look, autocast: Autocast, losses: Losses) -> None:
        """Record a pass over something shaped like `look`; `losses` are the phase's, as they are or compiled.

        Raises:
            RuntimeError: it cannot be recorded; out of memory, too.
        """
        self._phase = phase
        self._losses = losses
        self._look = look.clone()
        self._autocast = autocast
        self._names: tuple[str, ...] = ()
        before = Before(phase.trained, look.batch.images.device)
        try:
            self._recording = Recording(self._pass)
            self._gradients = [(parameter, parameter.grad) for parameter in phase.trained.parameters()]
            self.seconds = fastest_seconds(self._recording.replay)
            self.seconds_unrecorded = fastest_seconds(self._pass)
        finally:
            before.restore()

    def _pass(self) -> Tensor:
        for parameter in self._phase.trained.parameters():
            parameter.grad = None
        self._names, values = take_pass(self._losses, self._look, self._autocast)
        return values

    def takes(self, batch: Batch) -> bool:
        """Whether `batch` is shaped as the one that was recorded."""
        return batch.images.shape == self._look.batch.images.shape

    def fits(self, look: Look) -> bool:
        """Whether `look`, the teacher's part of it too, is shaped as what was recorded."""
        return [each.shape for each in look.tensors] == [each.shape for each in self._look.tensors]

    def replay(self, look: Look) -> Taken:
        """Take the pass over `look`. Gradients come in the same memory every time, in place of what was there."""
        for kept, new in zip(self._look.tensors, look.tensors, strict=True):
            kept.copy_(new)
        values = self._recording.replay().clone()
        for parameter, gradient in self._gradients:
            parameter.grad = gradient
        return self._names, values


class Replays:
    """Takes the passes of one phase after the other: compiled on request, replayed where that is faster."""

    def __init__(self, device: torch.device, tell: Callable[[Note], None], *, compiles: bool = False) -> None:
        """Compute on `device`; `tell` is told what a phase's passes have come to."""
        self._device = device
        self._tell = tell
        self._compiles = compiles
        self._phase: Phase | None = None
        self.forget()

    def forget(self) -> None:
        """Give the memory of a recording back, and record none before the next phase."""
        self._recorded: RecordedPass | None = None
        self._compiled: CompiledLosses | None = None
        self._steps_left = 0
        self._to_compile = False

    def replays(self, phase: Phase, batch: Batch) -> bool:
        """Whether the pass over a batch will be a replay."""
        recorded = self._recorded
        return recorded is not None and phase is self._phase and recorded.takes(batch)

    def take_pass(self, phase: Phase, look: Look, autocast: Autocast) -> Taken:
        """As `take_pass`. The parameters have no gradients yet."""
        if phase is not self._phase:
            self.forget()
            self._phase = phase
            self._steps_left = FIRST_STEPS if self._device.type == "cuda" and phase.repeats else 0
            self._to_compile = self._compiles
        if len(look.batch.labels) < phase.spec.batch_size:
            return take_pass(phase.losses, look, autocast)  # the last of an epoch
        if self._to_compile:
            self._to_compile = False
            self._compile(phase, look, autocast)
        if self._steps_left:
            self._steps_left -= 1
            if not self._steps_left:
                self._record(phase, look, autocast)
        if self._recorded is not None and self._recorded.fits(look):
            return self._recorded.replay(look)
        return take_pass(self._losses(phase, look), look, autocast)

    def _losses(self, phase: Phase, look: Look) -> Losses:
        return self._compiled if self._compiled is not None and self._compiled.fits(look) else phase.losses

    def _compile(self, phase: Phase, look: Look, autocast: Autocast) -> None:
        if not phase.repeats:
            self._say(phase, "is not compiled: it mixes images, or differentiates by them", level="warning")
            return
        try:
            self._compiled = CompiledLosses(phase, look, autocast)
        except RuntimeError as error:
            why = "there is no memory for it" if is_out_of_memory(error) else _first_line(error)
            self._say(phase, f"cannot be compiled: {why}", level="warning")
        else:
            self._say(phase, f"is compiled, which took {self._compiled.seconds:.0f} s")

    def _record(self, phase: Phase, look: Look, autocast: Autocast) -> None:
        try:
            recorded = RecordedPass(phase, look, autocast, self._losses(phase, look))
        except RuntimeError as error:
            # It never needs to be recorded: where memory is short, or the network waits for the device, all goes on.
            why = "there is no memory for it" if is_out_of_memory(error) else _first_line(error)
            self._say(phase, f"cannot be recorded: {why}")
            return
        times = (
            f"{recorded.seconds * 1000:.2f} ms replayed, {recorded.seconds_unrecorded * 1000:.2f} ms as it is"
        )
        if recorded.seconds < recorded.seconds_unrecorded:
            self._recorded = recorded
            self._say(phase, f"is replayed as a CUDA graph: {times}")
        else:
            self._say(phase, f"is not replayed as a CUDA graph: {times}")

    def _say(self, phase: Phase, what: str, level: Literal["info", "warning"] = "info") -> None:
        message = f"A pass of phase {phase.name} {what}."
        self._tell(Note(level=level, code="training.pass", message=message))


def _first_line(error: RuntimeError) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
