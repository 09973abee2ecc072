"""What the zoos of torchvision and timm have in common: names that exist or not, and stems for small images."""

import difflib
from collections.abc import Sequence

from torch import nn

from abcore.architectures.small_stems import shrink_stem
from abcore.specs.architectures import ImageShape, Timm, Torchvision
from abcore.specs.refusals import Refusal

SMALL_IMAGE = 64
"""Pixels up to which (height and width) `stem: auto` means `small`."""


def check_name(zoo: str, name: str, names: Sequence[str]) -> None:
    """Refuse a name that the zoo does not have, with the nearest that it has (`architecture.unknown`)."""
    if name in names:
        return
    near = difflib.get_close_matches(name, names, n=8, cutoff=0.4)
    raise Refusal(
        "architecture.unknown",
        f"{zoo} has no classification model named {name!r}",
        where="architecture.name",
        value=name,
        allowed=tuple(near),
        hint="`allowed` lists the nearest names." if near else f"See {zoo}'s documentation for its models.",
    )


def fit_stem(model: nn.Module, architecture: Torchvision | Timm, image: ImageShape) -> None:
    """Give `model`, just built, the stem that its spec asks for, in place.

    Raises:
        Refusal: a small stem is asked for by name, and it has none (`architecture.no_small_stem`).
    """
    is_small = max(image.height, image.width) <= SMALL_IMAGE
    if architecture.stem == "imagenet" or (architecture.stem == "auto" and not is_small):
        return
    if not shrink_stem(model, image.channels) and architecture.stem == "small":
        raise Refusal(
            "architecture.no_small_stem",
            f"{architecture.arch}'s {architecture.name} has no stem that could keep the resolution",
            where="architecture.stem",
            value="small",
            allowed=("auto", "imagenet"),
            hint="Leave `stem` out, or take a model with a convolutional stem, such as resnet18.",
        )
