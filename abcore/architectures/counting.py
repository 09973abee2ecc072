"""What a network costs: parameters, multiply-accumulates, bytes. Nothing is allocated."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from abcore.architectures.meta import meta_twin, passing
from abcore.specs.architectures import ImageShape

Result = TypeVar("Result")


def count_parameters(model: nn.Module) -> int:
    """Count the trainable parameters of a network just built."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_bytes(model: nn.Module) -> int:
    """Count the bytes of the state dict: parameters and buffers."""
    return sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())


def count_macs(model: nn.Module, image: ImageShape) -> int:
    """Count the multiply-accumulates of one forward pass of one image: convolutions and matrix products.

    As torch counts them, two floating-point operations each; norms, activations and pooling are not counted.

    Raises:
        Refusal: the network cannot take images of this shape (`architecture.image`).
    """
    twin = meta_twin(model).eval()
    images_BCHW = torch.zeros(1, image.channels, image.height, image.width, device="meta")
    with passing(image):
        return macs_of(lambda: twin(images_BCHW))[1]


def macs_of(forward: Callable[[], Result]) -> tuple[Result, int]:
    """Call `forward`; return its result, and the multiply-accumulates of the operations that it carried out."""
    with FlopCounterMode(display=False) as counter:
        result = forward()
    return result, int(counter.get_total_flops()) // 2
