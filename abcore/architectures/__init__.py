"""Networks from data: `build_model` turns a `ModelSpec` into a module with fresh weights. One family a file."""

from typing import assert_never

from torch import nn

from abcore.architectures.torchvision_zoo import build_torchvision
from abcore.architectures.wide_resnet import build_wide_resnet
from abcore.specs.architectures import ModelSpec, Torchvision, WideResNet


def build_model(spec: ModelSpec) -> nn.Module:
    """Build the network of `spec`, in training mode: images_BCHW float32 -> logits_BK float32.

    Weights are drawn from torch's global random generator (seed it first), and parameters live on the current
    default device: under `torch.device("meta")` nothing is allocated. Activations may work in place; `TapCapture`
    sees to it that a captured pre-activation is not overwritten.

    Raises:
        Refusal: the architecture is unknown or cannot take this image. `where` is a path into `spec`.
    """
    match spec.architecture:
        case WideResNet() as architecture:
            return build_wide_resnet(architecture, spec)
        case Torchvision() as architecture:
            return build_torchvision(architecture, spec)
        case unknown:
            assert_never(unknown)
