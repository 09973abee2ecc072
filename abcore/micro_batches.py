"""A step whose batch is more than memory holds: taken in parts, whose gradients add up to the whole batch's."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from abcore.data.batches import Batch
from abcore.events import MicroBatch, Note
from abcore.memory import earlier_halvings, is_out_of_memory
from abcore.phases import Phase
from abcore.replaying import Replays, take_pass
from abcore.restoring import Before

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

    def __init__(
        self, device: torch.device, tell: Callable[[MicroBatch | Note], None], *, compiles: bool = False
    ) -> None:
        """Compute on `device`; `tell` is told of each time that a batch was halved, and of what is replayed.

        With `compiles`, whole batches of phases that repeat themselves are computed by `torch.compile`.
        """
        self.own_halvings = 0
        self._earlier_halvings = earlier_halvings()
        self._told = not self._earlier_halvings
        self._device = device
        self._tell = tell
        self._replays = Replays(device, tell, compiles=compiles)

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
            # A replayed pass has all its memory already. So what may still fail has changed nothing.
            before = None if self._replays.replays(phase, batch) else Before(phase.trained, self._device)
            try:
                return self._accumulate(phase, batch, autocast)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error) or not self._can_halve(batch):
                    raise
                reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            # Outside of the handler: what it caught holds the failed pass, and with it its memory.
            if before is not None:
                before.restore()
            self._replays.forget()
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
                look = phase.look(part)
            share = batch.share * len(part.labels) / len(batch.labels)
            if share == 1.0:
                return self._replays.take_pass(phase, look, autocast)
            names, losses = take_pass(phase.losses, look, autocast, share)
            total = losses if total is None else total + losses
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
