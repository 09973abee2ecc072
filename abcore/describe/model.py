"""Parameters, multiply-accumulates, size and taps of a network, from one look at it on the meta device."""

from functools import lru_cache

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from abcore.architectures import build_on_meta
from abcore.specs.architectures import ImageShape, ModelSpec
from abcore.specs.refusals import Refusal
from abcore.specs.reports import ModelDescription
from abcore.taps.finding import find_in
from abcore.taps.recording import Recording, meta_twin, record

MOST_MACS = 2 * 10**12
"""Multiply-accumulates that one image may take: twice those of the largest model in torchvision's zoo."""


@lru_cache(maxsize=256)
def describe_model(spec: ModelSpec) -> ModelDescription:
    """Describe the network of `spec`.

    Raises:
        Refusal: it cannot be built, is too large, or cannot take images of this shape. `where` is a path into `spec`.
    """
    model = build_on_meta(spec)
    recording = record_pass(model, spec)
    num_macs = count_macs(model, spec.image)
    if num_macs > MOST_MACS:
        raise Refusal(
            "architecture.too_large",
            f"one image would take {num_macs:,} multiply-accumulates; at most {MOST_MACS:,} are allowed",
            where="architecture",
            value=num_macs,
            hint="Use smaller images, or make the network narrower or less deep.",
        )
    return ModelDescription(
        spec=spec,
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        num_macs=num_macs,
        size_bytes=sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values()),
        taps=find_in(recording),
    )


def record_pass(model: nn.Module, spec: ModelSpec) -> Recording:
    """Record a forward pass of the network of `spec`, just built.

    Raises:
        Refusal: the network cannot take an image of this shape (`architecture.image`).
    """
    image = spec.image
    try:
        return record(model, image)
    except (AssertionError, RuntimeError, ValueError) as error:
        # On the meta device there is nothing that could fail but shapes.
        shape = f"{image.channels}x{image.height}x{image.width}"
        raise Refusal(
            "architecture.image",
            f"the network cannot take images of {shape}: {str(error).splitlines()[0]}",
            where="image",
            value=shape,
            hint="Use larger images, or an architecture that reduces the resolution less often.",
        ) from error


def count_macs(model: nn.Module, image: ImageShape) -> int:
    """Count the multiply-accumulates of one forward pass of one image: convolutions and matrix products.

    As torch counts them, two floating-point operations each; norms, activations and pooling are not counted.
    """
    twin = meta_twin(model).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        twin(torch.zeros(1, image.channels, image.height, image.width, device="meta"))
    return int(counter.get_total_flops()) // 2
