"""torch.compile: kernels made for one phase's passes, where the recipe asks for them."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from abcore.phases import Look, Phase
from abcore.restoring import Before


class CompiledLosses:
    """`Phase.losses` for batches of one shape, compiled. Making it leaves the phase as it was.

    A process that goes on where another was stopped compiles the same before its first step, so its steps are the same.

    Attributes:
        seconds: how long it took to compile.
    """

    def __init__(
        self, phase: Phase, look: Look, autocast: Callable[[], AbstractContextManager[None]]
    ) -> None:
        """Compile for batches shaped like `look`, the backward pass too.

        Raises:
            RuntimeError: there is no compiler, or the network does what cannot be compiled.
        """
        # A second's import, which few runs need.
        from torch._dynamo.exc import BackendCompilerFailed  # noqa: PLC0415
        from torch._inductor import config as inductor  # noqa: PLC0415

        started = time.monotonic()
        self._layout = _layout(look)
        self._losses: Callable[[Look], dict[str, Tensor]]
        before = Before(phase.trained, look.batch.images.device)
        try:
            with torch.no_grad(), autocast():
                phase.losses(look)  # what only a first pass checks, taps for one, waits for values
            # A pool of compiling processes would outlive what asked for it, and this child may have been forked.
            with inductor.patch(compile_threads=1):
                self._losses = torch.compile(phase.losses, fullgraph=True, dynamic=False)
                with autocast():
                    losses = self._losses(look)
                torch.autograd.backward(torch.stack(list(losses.values())).sum())
        except BackendCompilerFailed as error:
            # Its own first line names the compiler's entry, not what is wrong.
            raise RuntimeError(str(error.inner_exception)) from error
        finally:
            before.restore()
        self.seconds = time.monotonic() - started

    def fits(self, look: Look) -> bool:
        """Whether it can be called with `look`: another shape would have to be compiled first, in mid-training."""
        return _layout(look) == self._layout

    def __call__(self, look: Look) -> dict[str, Tensor]:
        """Return what `Phase.losses` returns, within rounding."""
        return self._losses(look)


def _layout(look: Look) -> list[Any]:
    return [(each.shape, each.stride(), each.dtype) for each in look.tensors]
