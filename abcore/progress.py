"""Where a training run is, counted in phases, epochs, steps and images."""

from collections.abc import Sequence
from dataclasses import dataclass


class Stopped(BaseException):
    """The run was asked to stop. Like KeyboardInterrupt it comes anywhere, and is no error of what it comes upon."""


class OutOfTime(BaseException):
    """The process has used the processor for as long as it may. It too comes anywhere."""


@dataclass
class Position:
    """Phase, epoch in the phase, steps done in the epoch; all count from 0."""

    phase: int = 0
    epoch: int = 0
    step: int = 0

    @property
    def at_phase_start(self) -> bool:
        """Whether nothing of the phase is done yet."""
        return self.epoch == 0 and self.step == 0

    def end_epoch(self) -> None:
        """Go to the beginning of the next epoch."""
        self.epoch, self.step = self.epoch + 1, 0

    def end_phase(self) -> None:
        """Go to the beginning of the next phase."""
        self.phase, self.epoch, self.step = self.phase + 1, 0, 0


@dataclass(frozen=True)
class PhaseLength:
    """How long one phase is."""

    epochs: int
    steps_per_epoch: int
    batch_size: int

    @property
    def steps(self) -> int:
        """Optimizer steps of the phase."""
        return self.epochs * self.steps_per_epoch


@dataclass(frozen=True)
class Itinerary:
    """All phases of a run, one after the other."""

    lengths: Sequence[PhaseLength]

    def is_over(self, position: Position) -> bool:
        """Whether all phases are done."""
        return position.phase == len(self.lengths)

    def phase_step(self, position: Position) -> int:
        """Steps done in the current phase; in the last one where the run is over."""
        if self.is_over(position):
            return self.lengths[-1].steps
        return position.epoch * self.lengths[position.phase].steps_per_epoch + position.step

    def global_step(self, position: Position) -> int:
        """Steps done in all phases."""
        done = sum(length.steps for length in self.lengths[: position.phase])
        return done if self.is_over(position) else done + self.phase_step(position)

    def first_epoch(self, phase: int) -> int:
        """Epochs of all earlier phases: data is drawn anew in every epoch of a run, whatever its phase."""
        return sum(length.epochs for length in self.lengths[:phase])

    @property
    def num_images(self) -> int:
        """Images of all phases, each counted as often as it is seen; a smaller last batch counts as a full one."""
        return sum(length.steps * length.batch_size for length in self.lengths)

    def images_done(self, position: Position) -> int:
        """Images seen so far, counted alike."""
        done = sum(length.steps * length.batch_size for length in self.lengths[: position.phase])
        if not self.is_over(position):
            done += self.phase_step(position) * self.lengths[position.phase].batch_size
        return done


def ends_window(step: int, steps_per_epoch: int, window_steps: int = 50) -> bool:
    """Whether a point of the training curves is due after `step` steps of an epoch.

    An epoch is cut into windows of equal length, about `window_steps`, the last one ending with it.
    """
    num_windows = max(1, round(steps_per_epoch / window_steps))
    return step * num_windows // steps_per_epoch > (step - 1) * num_windows // steps_per_epoch
