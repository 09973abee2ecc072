"""Stems for small images: a model of ImageNet's size that does not throw away the resolution before its first stage.

ImageNet models quarter the resolution in their stem: a 32-pixel image would be one pixel at the end. Here the first two
halvings are left out, as is usual for CIFAR (He et al. 2016, arXiv 1512.03385, section 4.2), so that the stages work at
1, 1/2, 1/4 and 1/8 of the image instead of 1/4, 1/8, 1/16 and 1/32. The layers that halve are found by watching a pass:

- a convolution loses its stride; a dense one whose kernel is even or larger than 3x3 becomes 3x3;
- a pooling layer becomes the identity.

A stem begins with a strided convolution. A network whose first halving is a pooling layer (VGG) has none, nor has one
that cuts the image into patches of more than 4 pixels (ViT).
"""

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from abcore.architectures.meta import meta_twin

_SIDE = 128
"""Side of the image whose pass is watched, in pixels: large enough for each stage to have a resolution of its own."""


@dataclass(frozen=True)
class _Layer:
    """A convolution or pooling layer in a pass: its module path, and the sides of the maps before and after it."""

    path: str
    before: int
    after: int

    @property
    def halves(self) -> bool:
        """Whether it reduces the resolution on purpose, and not only for want of padding."""
        return self.after < 0.75 * self.before


def shrink_stem(model: nn.Module, channels: int) -> bool:
    """Give `model` a small stem, in place, if it has a stem that can be made small; say whether it has.

    Args:
        model: a network just built, with its weights drawn.
        channels: of its images.
    """
    twin = meta_twin(model).eval()
    try:
        before = _watch(twin, channels)
        stem = [layer for layer in before if layer.halves and _halvings(layer.after) <= 2]
        if not stem or not isinstance(twin.get_submodule(stem[0].path), nn.Conv2d):
            return False
        for layer in stem:
            _keep_resolution(twin, layer.path)
        after = _watch(twin, channels)
    except (AssertionError, RuntimeError, ValueError):
        return False  # made for one image size, or a shortcut reduces the resolution in another way
    if _halvings(_smallest(before)) - _halvings(_smallest(after)) < 2:
        return False
    for layer in stem:
        _keep_resolution(model, layer.path)
    return True


def replace_conv(model: nn.Module, path: str, **changes: int) -> None:
    """Replace the convolution at `path` by one that differs in the given arguments, with weights of its own.

    Weights are drawn as in He et al. 2015 (arXiv 1502.01852), variance by fan-out; a bias starts at 0.
    """
    old = model.get_submodule(path)
    assert isinstance(old, nn.Conv2d), path
    arguments = {
        "in_channels": old.in_channels,
        "out_channels": old.out_channels,
        "kernel_size": old.kernel_size,
        "stride": old.stride,
        "padding": old.padding,
        "groups": old.groups,
        "bias": old.bias is not None,
        "device": old.weight.device,
    }
    new = nn.Conv2d(**{**arguments, **changes})  # type: ignore[arg-type]  # a dict of mixed argument types
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    if new.bias is not None:
        nn.init.zeros_(new.bias)
    model.set_submodule(path, new)


def _watch(twin: nn.Module, channels: int) -> list[_Layer]:
    """Run a square image through a network on the meta device; list its convolution and pooling layers, in order."""
    seen: list[_Layer] = []

    def note(path: str) -> Callable[..., None]:
        def hook(_: nn.Module, arguments: tuple[Tensor, ...], result: Tensor) -> None:
            if arguments[0].dim() == 4:
                seen.append(_Layer(path, arguments[0].shape[-1], result.shape[-1]))

        return hook

    with ExitStack() as hooks, torch.no_grad():
        for path, module in twin.named_modules():
            if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
                hooks.callback(module.register_forward_hook(note(path)).remove)
        twin(torch.zeros(1, channels, _SIDE, _SIDE, device="meta"))
    return seen


def _keep_resolution(model: nn.Module, path: str) -> None:
    layer = model.get_submodule(path)
    if not isinstance(layer, nn.Conv2d):
        model.set_submodule(path, nn.Identity())
    elif type(layer) is nn.Conv2d and layer.groups == 1 and layer.kernel_size[0] not in (1, 3):
        replace_conv(model, path, kernel_size=3, stride=1, padding=1)
    else:
        layer.stride = (1, 1)


def _halvings(side: int) -> int:
    return round(math.log2(_SIDE / side))


def _smallest(layers: list[_Layer]) -> int:
    """The smallest map that is a map: squeeze-and-excitation and classifiers convolve single pixels."""
    return min(layer.after for layer in layers if layer.after > 1)
