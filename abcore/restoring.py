"""What a pass changes besides gradients, kept so that it can be taken back."""

from typing import Any

import torch
from torch import Tensor, nn


class Before:
    """What a forward pass changes, as it was before it: gradients (none), running statistics, random numbers."""

    def __init__(self, trained: nn.Module, device: torch.device) -> None:
        self._trained = trained
        self._device = device
        self._buffers = list(trained.buffers())
        self._values = [buffer.clone() for buffer in self._buffers]
        self._random = random_state(device)

    def restore(self) -> None:
        """Make all as it was."""
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
