"""What a training step of a network keeps in memory, read off a pass on the meta device."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from abcore.specs.architectures import ImageShape

_BATCH = 2  # of one image a batch norm cannot train where maps have shrunk to one pixel


class StepMemory(NamedTuple):
    """Of one image, in bytes of float32: what autograd keeps for the backward pass, and the largest map in it."""

    saved_bytes: int
    largest_bytes: int


def step_memory(model: nn.Module, image: ImageShape) -> StepMemory:
    """Measure a network just built on the meta device, which is left in training mode.

    What autograd saves is counted once, however many operations need it; parameters and buffers are not counted.

    Raises:
        Exception: whatever the model raises for an image that it cannot take.
    """
    own = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}
    saved: dict[int, Tensor] = {}  # keeps them alive: the identity of a storage must not be given away again

    def keep(tensor: Tensor) -> Tensor:
        identity = tensor.untyped_storage()._cdata
        if identity not in own:
            saved[identity] = tensor
        return tensor

    images_BCHW = torch.zeros(_BATCH, image.channels, image.height, image.width, device="meta")
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        model.train()(images_BCHW)
    sizes = [tensor.untyped_storage().nbytes() // _BATCH for tensor in saved.values()]
    return StepMemory(sum(sizes), max(sizes, default=0))
