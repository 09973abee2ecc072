"""A step whose batch is more than memory holds: taken in parts, whose gradients add up to the whole batch's."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from abcore.data.batches import Batch
from abcore.events import MicroBatch
from abcore.memory import earlier_halvings, is_out_of_memory
from abcore.phases import Phase

SMALLEST = 2
"""Images of the smallest part: batch norm has nothing to measure on one image of one pixel."""


class MicroBatches:
    """Computes the gradient of a batch, in 1, 2, 4, ... parts: twice as many after each time that memory ran out.

    The losses are means over the images of a batch, so the parts' gradients, each by its share of the images, add up
    to the gradient of the whole: the effective batch stays what the recipe says. Two things are a part's and not the
    whole's. Batch norm measures each part by itself (as "ghost batch norm" does, Hoffer, Hubara, Soudry 2017,
    arXiv 1705.08741), and moves its running statistics once a part. Mixup and CutMix draw once a part.

    `own_halvings` is what must survive a resume.
    """

    def __init__(self, device: torch.device, tell: Callable[[MicroBatch], None]) -> None:
        """Compute on `device`; `tell` is told of each time that a batch was halved."""
        self.own_halvings = 0
        self._earlier_halvings = earlier_halvings()
        self._told = not self._earlier_halvings
        self._device = device
        self._tell = tell

    def backward(
        self,
        phase: Phase,
        batch: Batch,
        step: int,
        autocast: Callable[[], AbstractContextManager[None]],
    ) -> tuple[tuple[str, ...], Tensor]:
        """Add the gradient of a batch to the parameters of the phase, which have none yet.

        Args:
            phase: whose losses are minimised.
            batch: of one step.
            step: of the phase, from 0; told, not used.
            autocast: precision of the forward pass.

        Returns:
            The losses' names, and their values over the whole batch (of a batch that several processes compute, its
            share of them), one element a name, detached.
        """
        if not self._told:
            self._say(phase, step, batch, "an earlier attempt ended for want of memory")
        while True:
            before = _Before(phase.trained, self._device)
            try:
                return self._accumulate(phase, batch, autocast)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error) or not self._can_halve(batch):
                    raise
                reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            # Outside of the handler: what it caught holds the failed pass, and with it its memory.
            before.restore()
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            self.own_halvings += 1
            self._say(phase, step, batch, reason)

    def _accumulate(
        self, phase: Phase, batch: Batch, autocast: Callable[[], AbstractContextManager[None]]
    ) -> tuple[tuple[str, ...], Tensor]:
        names: tuple[str, ...] = ()
        total: Tensor | None = None
        for part in self._parts(batch):
            with autocast():
                losses = phase.losses(part)
            values = torch.stack(list(losses.values()))
            share = batch.share * len(part.labels) / len(batch.labels)
            if share != 1.0:
                values = values * share
            torch.autograd.backward(values.sum())
            names = tuple(losses)
            total = values.detach() if total is None else total + values.detach()
        assert total is not None, "a batch without images"
        return names, total

    def _say(self, phase: Phase, step: int, batch: Batch, reason: str) -> None:
        num_images = len(batch.labels)
        largest_part = -(-num_images // self._num_parts(batch))
        self._tell(
            MicroBatch(phase=phase.name, step=step, images=largest_part, batch=num_images, reason=reason)
        )
        self._told = True

    def _parts(self, batch: Batch) -> Iterator[Batch]:
        num_parts = self._num_parts(batch)
        if num_parts == 1:
            yield batch
            return
        columns = (column.tensor_split(num_parts) for column in (batch.images, batch.labels, batch.indices))
        for images, labels, indices in zip(*columns, strict=True):
            yield batch._replace(images=images, labels=labels, indices=indices)

    def _num_parts(self, batch: Batch) -> int:
        wanted = 1 << (self.own_halvings + self._earlier_halvings)
        return max(1, min(wanted, len(batch.labels) // SMALLEST))

    def _can_halve(self, batch: Batch) -> bool:
        return 2 * self._num_parts(batch) <= len(batch.labels) // SMALLEST


class _Before:
    """What a forward pass changes, as it was before it: gradients (none), running statistics, random numbers."""

    def __init__(self, trained: nn.Module, device: torch.device) -> None:
        self._trained = trained
        self._device = device
        self._buffers = list(trained.buffers())
        self._values = [buffer.clone() for buffer in self._buffers]
        self._random = random_state(device)

    def restore(self) -> None:
        with torch.no_grad():
            for buffer, value in zip(self._buffers, self._values, strict=True):
                buffer.copy_(value)
        for parameter in self._trained.parameters():
            parameter.grad = None
        restore_random_state(self._random, self._device)


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Return the state of the generators that training draws from."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Go on with random numbers where `random_state` was taken."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
