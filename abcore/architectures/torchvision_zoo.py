"""torchvision's classification models, for any number of channels and classes, and for small images."""

from functools import cache
from typing import Any

from torch import nn

from abcore.architectures.small_stems import replace_conv
from abcore.architectures.torchvision_import import import_torchvision
from abcore.architectures.zoo import check_name, fit_stem
from abcore.specs.architectures import ModelSpec, Torchvision
from abcore.specs.refusals import Refusal


@cache
def torchvision_names() -> tuple[str, ...]:
    """Names of torchvision's classification models, sorted: the ones that a `Torchvision` spec may ask for."""
    models = import_torchvision().models
    # Restricted to this very module, the registry leaves out detection, segmentation, video and quantized models.
    return tuple(sorted(models.list_models(module=models)))


def build_torchvision(architecture: Torchvision, spec: ModelSpec) -> nn.Module:
    """Build the model with random weights.

    The classifier has `spec.num_classes` outputs. GoogLeNet and Inception come without their auxiliary classifiers.
    With other than 3 channels the first convolution is replaced.

    Raises:
        Refusal: no model has this name (`architecture.unknown`), its width cannot be scaled (`architecture.width`), it
            has no small stem (`architecture.no_small_stem`), or its constructor does not take this image
            (`architecture.image`).
    """
    name = architecture.name
    check_name("torchvision", name, torchvision_names())
    models = import_torchvision().models
    try:
        model: nn.Module = models.get_model(
            name, weights=None, num_classes=spec.num_classes, **_arguments(architecture, spec)
        )
    except ValueError as error:
        raise Refusal(
            "architecture.image",
            f"torchvision's {name} cannot be built for this image: {error}",
            where="image",
            value=f"{spec.image.height}x{spec.image.width}",
            hint="Use another image size (torchvision's own is 224x224) or another architecture.",
        ) from error
    if spec.image.channels != 3:
        _adapt_channels(model, spec.image.channels)
    fit_stem(model, architecture, spec.image)
    return model


def _arguments(architecture: Torchvision, spec: ModelSpec) -> dict[str, Any]:
    """What a constructor needs besides the number of classes."""
    name, height, width = architecture.name, spec.image.height, spec.image.width
    if architecture.width_mult != 1:
        _check_scalable(architecture)
        return {"width_mult": architecture.width_mult}
    if name in ("googlenet", "inception_v3"):
        return {"aux_logits": False, "init_weights": True}
    if name == "maxvit_t":
        return {"input_size": (height, width)}
    if name.startswith("vit_"):
        _check_patches(name, height, width)
        return {"image_size": height}
    return {}


def _check_scalable(architecture: Torchvision) -> None:
    if not architecture.name.startswith(("mobilenet_v2", "mobilenet_v3")):
        raise Refusal(
            "architecture.width",
            f"torchvision's {architecture.name} has no width factor",
            where="architecture.width_mult",
            value=architecture.width_mult,
            allowed=("1.0",),
            hint="Leave width_mult out, or use mobilenet_v2, mobilenet_v3_small or mobilenet_v3_large.",
        )


def _check_patches(name: str, height: int, width: int) -> None:
    patch = int(name.rsplit("_", 1)[1])
    if height != width or height % patch:
        raise Refusal(
            "architecture.image",
            f"torchvision's {name} takes square images whose side is a multiple of its {patch}-pixel patches; "
            f"this one is {height}x{width}",
            where="image",
            value=f"{height}x{width}",
            hint=f"Resize to {max(patch, round(height / patch) * patch)} pixels, or use another architecture.",
        )


def _adapt_channels(model: nn.Module, channels: int) -> None:
    for path, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            replace_conv(model, path, in_channels=channels)
            return
    raise AssertionError("every classification model of torchvision begins with a convolution")
