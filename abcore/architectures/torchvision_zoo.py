"""torchvision's classification models, for any number of channels and classes, and for small images."""

import difflib
from functools import cache
from typing import Any

from torch import nn

from abcore.architectures.small_stems import has_small_stem, replace_conv, shrink_stem
from abcore.architectures.torchvision_import import import_torchvision
from abcore.specs.architectures import ModelSpec, Torchvision
from abcore.specs.refusals import Refusal

SMALL_IMAGE = 64
"""Pixels up to which (height and width) `stem: auto` means `small`."""


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
        Refusal: no model has this name (`architecture.unknown`), it has no small stem (`architecture.no_small_stem`),
            or its constructor does not take this image (`architecture.image`).
    """
    name = architecture.name
    _check_name(name)
    small = _wants_small_stem(architecture, spec)
    models = import_torchvision().models
    try:
        model: nn.Module = models.get_model(
            name, weights=None, num_classes=spec.num_classes, **_arguments(name, spec)
        )
    except ValueError as error:
        raise Refusal(
            "architecture.image",
            f"torchvision's {name} cannot be built for this image: {error}",
            where="image",
            value=f"{spec.image.height}x{spec.image.width}",
            hint="Use another image size (torchvision's own is 224x224) or another architecture.",
        ) from error
    if small:
        shrink_stem(model, name)
    if spec.image.channels != 3:
        _adapt_channels(model, spec.image.channels)
    return model


def _check_name(name: str) -> None:
    names = torchvision_names()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=8, cutoff=0.4)
        raise Refusal(
            "architecture.unknown",
            f"torchvision has no classification model named {name!r}",
            where="architecture.name",
            value=name,
            allowed=tuple(near or names),
            hint="`allowed` lists the nearest names." if near else "`allowed` lists all names.",
        )


def _wants_small_stem(architecture: Torchvision, spec: ModelSpec) -> bool:
    available = has_small_stem(architecture.name)
    if architecture.stem == "small" and not available:
        raise Refusal(
            "architecture.no_small_stem",
            f"torchvision's {architecture.name} has no stem that could keep the resolution",
            where="architecture.stem",
            value="small",
            allowed=("auto", "imagenet"),
            hint="Leave `stem` out, or take a model with a convolutional stem, such as resnet18.",
        )
    if architecture.stem == "auto":
        return available and max(spec.image.height, spec.image.width) <= SMALL_IMAGE
    return architecture.stem == "small"


def _arguments(name: str, spec: ModelSpec) -> dict[str, Any]:
    """What a constructor needs besides the number of classes."""
    height, width = spec.image.height, spec.image.width
    if name in ("googlenet", "inception_v3"):
        return {"aux_logits": False, "init_weights": True}
    if name == "maxvit_t":
        return {"input_size": (height, width)}
    if name.startswith("vit_"):
        _check_patches(name, height, width)
        return {"image_size": height}
    return {}


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
