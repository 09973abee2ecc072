"""Running figures of the training loop: mean losses over a window of steps, and the pace of the whole run."""

import math
import time
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor

from abcore.events import PhaseName, Progress

Item = TypeVar("Item")


class Diverged(Exception):
    """A loss was not finite. `step` counts the phase's steps from 0."""

    def __init__(self, step: int) -> None:
        super().__init__(f"the loss was not finite at step {step}")
        self.step = step


class Wait:
    """How long a loop has waited for what it goes over, in seconds: for a batch to be put together, say."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def over(self, items: Iterator[Item]) -> Iterator[Item]:
        """The items, as they come."""
        while True:
            started = time.perf_counter()
            item = next(items, None)
            self.seconds += time.perf_counter() - started
            if item is None:
                return
            yield item


class LossMeter:
    """Adds up named losses on the device; nothing is read back, and the device not waited for, before `take`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._names: tuple[str, ...] = ()
        self._reset()

    def _reset(self) -> None:
        self.count = 0
        self._sums: Tensor | None = None
        self._first_bad = torch.tensor(math.inf, device=self._device)

    def add(self, names: tuple[str, ...], losses: Tensor, step: int) -> None:
        """Add the losses of one step, one element a name; `step` counts the phase's steps from 0."""
        losses = losses.detach()
        bad = torch.where(losses.isfinite().all(), math.inf, float(step))
        self._names = names
        self._first_bad = torch.minimum(self._first_bad, bad)
        self._sums = losses if self._sums is None else self._sums + losses
        self.count += 1

    def first_bad_step(self) -> int | None:
        """Return the first step since the last `take` whose losses were not finite; waits for the device."""
        first_bad = float(self._first_bad)
        return None if math.isinf(first_bad) else int(first_bad)

    def take(self) -> dict[str, float]:
        """Return the mean of each loss and their sum (`loss`) since the last call, and start again.

        Raises:
            Diverged: a loss since the last call was not finite.
        """
        assert self._sums is not None, "no step was added"
        first_bad, *sums = torch.cat([self._first_bad[None], self._sums]).tolist()
        if first_bad != math.inf:
            raise Diverged(int(first_bad))
        means = {f"loss/{name}": total / self.count for name, total in zip(self._names, sums, strict=True)}
        self._reset()
        return {"loss": sum(means.values()), **means}

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to go on with the window."""
        return {
            "count": self.count,
            "names": list(self._names),
            "sums": self._sums,
            "first_bad": self._first_bad,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with a window that was begun elsewhere."""
        self.count = state["count"]
        self._names = tuple(state["names"])
        self._sums = None if state["sums"] is None else state["sums"].to(self._device)
        self._first_bad = state["first_bad"].to(self._device)


class Pace:
    """How far the run is and how fast it goes, at most once in `interval_seconds`.

    The remaining time is foretold from all that this process has trained, evaluations included.
    """

    def __init__(self, num_images: int, images_done: int, interval_seconds: float = 1.0) -> None:
        self._num_images = num_images
        self._interval = interval_seconds
        self._start = self._last = time.monotonic()
        self._start_images = self._last_images = images_done

    def report(self, phase: PhaseName, epoch: int, step: int, images_done: int) -> Progress | None:
        """Return a record if one is due. `images_done` counts over all phases, earlier attempts included."""
        now = time.monotonic()
        if now - self._last < self._interval:
            return None
        rate = (images_done - self._start_images) / (now - self._start)
        progress = Progress(
            phase=phase,
            epoch=epoch,
            step=step,
            fraction=min(1.0, images_done / self._num_images),
            images_per_second=(images_done - self._last_images) / (now - self._last),
            eta_seconds=(self._num_images - images_done) / max(rate, 1e-9),
        )
        self._last, self._last_images = now, images_done
        return progress
