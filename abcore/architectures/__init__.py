"""Networks from data: `build_model` turns a `ModelSpec` into a module with fresh weights. One family a file."""

from typing import assert_never

import torch
from torch import nn

from abcore.architectures.auto import choose
from abcore.architectures.counting import count_parameters
from abcore.architectures.ensemble import Ensemble as EnsembleModel
from abcore.architectures.layers import build_layers
from abcore.architectures.meta import OnMeta
from abcore.architectures.resnet_cifar import build_resnet_cifar
from abcore.architectures.timm_zoo import build_timm
from abcore.architectures.torchvision_zoo import build_torchvision
from abcore.architectures.wide_resnet import build_wide_resnet
from abcore.specs.architectures import Auto, Ensemble, ModelSpec, ResNetCifar, Timm, Torchvision, WideResNet
from abcore.specs.layers import Layers
from abcore.specs.refusals import Refusal

MOST_PARAMETERS = 2**30
"""Parameters that a network may have: 4 GiB of float32 weights."""


def build_model(spec: ModelSpec) -> nn.Module:
    """Build the network of `spec`, in training mode: images_BCHW float32 -> logits_BK float32.

    Weights are drawn from torch's global random generator (seed it first), and parameters live on the current
    default device. An `auto` architecture is resolved first. Activations may work in place; `TapCapture` sees to it
    that a captured pre-activation is not overwritten.

    Raises:
        Refusal: the architecture is unknown, cannot take this image, or is too large; the last is found out before
            anything is allocated. `where` is a path into `spec`.
    """
    spec = resolve_auto(spec)
    if torch.get_default_device().type != "meta":
        build_on_meta(spec)
    return _build(spec)


def build_on_meta(spec: ModelSpec) -> nn.Module:
    """Build the network of `spec` without data, on the meta device: for counting, and for passes that compute shapes.

    The random generator is left alone.

    Raises:
        Refusal: as `build_model`.
    """
    with OnMeta():
        model = _build(resolve_auto(spec))
    num_parameters = count_parameters(model)
    if num_parameters > MOST_PARAMETERS:
        raise Refusal(
            "architecture.too_large",
            f"this network would have {num_parameters:,} parameters; at most {MOST_PARAMETERS:,} are allowed",
            where="architecture",
            value=num_parameters,
            allowed=(f"<= {MOST_PARAMETERS} parameters",),
            hint="Make it narrower or less deep.",
        )
    return model


def resolve_auto(spec: ModelSpec) -> ModelSpec:
    """Return `spec` with a concrete architecture in place of an `auto` one; any other spec as it is.

    A pure function of the spec: it resolves to the same network wherever it is asked.

    Raises:
        Refusal: no version of the family stays within the limits (`architecture.limits`).
    """
    return choose(spec, build_on_meta) if isinstance(spec.architecture, Auto) else spec


def _build(spec: ModelSpec) -> nn.Module:
    match spec.architecture:
        case WideResNet() as architecture:
            return build_wide_resnet(architecture, spec)
        case ResNetCifar() as architecture:
            return build_resnet_cifar(architecture, spec)
        case Torchvision() as architecture:
            return build_torchvision(architecture, spec)
        case Timm() as architecture:
            return build_timm(architecture, spec)
        case Layers() as architecture:
            return build_layers(architecture, spec)
        case Ensemble() as architecture:
            members = [spec.model_copy(update={"architecture": member}) for member in architecture.members]
            return EnsembleModel([_build(member) for member in members])
        case Auto():
            raise AssertionError("resolve_auto comes first")
        case unknown:
            assert_never(unknown)
