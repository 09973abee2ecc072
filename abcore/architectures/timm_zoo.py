"""timm's models, an optional dependency: any name that `timm.list_models()` has, with random weights."""

from functools import cache
from types import ModuleType
from typing import Any

from torch import nn

from abcore.architectures.torchvision_import import import_torchvision
from abcore.architectures.zoo import check_name, fit_stem
from abcore.specs.architectures import ModelSpec, Timm
from abcore.specs.refusals import Refusal


@cache
def timm_names() -> tuple[str, ...]:
    """Names of timm's models, sorted.

    Raises:
        Refusal: timm is not installed (`architecture.unavailable`).
    """
    return tuple(sorted(_timm().list_models()))


def build_timm(architecture: Timm, spec: ModelSpec) -> nn.Module:
    """Build the model with random weights, for the image's channels and the given classes. Nothing is downloaded.

    Raises:
        Refusal: timm is not installed (`architecture.unavailable`), no model has this name (`architecture.unknown`), it
            has no small stem (`architecture.no_small_stem`), or cannot be built for this image
            (`architecture.image`).
    """
    name = architecture.name
    check_name("timm", name, timm_names())
    timm = _timm()
    arguments: dict[str, Any] = {"num_classes": spec.num_classes, "in_chans": spec.image.channels}
    size = (spec.image.height, spec.image.width)
    configuration = timm.get_pretrained_cfg(name)
    if configuration is not None and configuration.fixed_input_size:
        arguments["img_size"] = size
    try:
        model: nn.Module = timm.create_model(name, pretrained=False, **arguments)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise Refusal(
            "architecture.image",
            f"timm's {name} cannot be built for images of {spec.image.channels}x{size[0]}x{size[1]}: {error}",
            where="image",
            value=f"{size[0]}x{size[1]}",
            hint="Use the image size that the model was published with, or another architecture.",
        ) from error
    fit_stem(model, architecture, spec.image)
    return model


def _timm() -> ModuleType:
    import_torchvision()  # timm imports it, and cannot if its operators do not fit this torch
    try:
        import timm  # noqa: PLC0415  # optional: only whoever asks for it needs it
    except ModuleNotFoundError as error:
        raise Refusal(
            "architecture.unavailable",
            "this server has no timm",
            where="architecture.arch",
            value="timm",
            hint="Install it with `pip install abdistill-server[timm]`, or use a torchvision model.",
        ) from error
    module: ModuleType = timm
    return module
