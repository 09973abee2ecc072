"""Stems for small images: which layers of a torchvision model stop reducing the resolution.

ImageNet models quarter the resolution before their first stage: a 32-pixel image would be 1 pixel at the end. With a
small stem the first two halvings are left out, as is usual for CIFAR (He et al. 2016, arXiv 1512.03385, section 4.2),
so that the stages work at 1, 1/2, 1/4 and 1/8 of the image instead of 1/4, 1/8, 1/16 and 1/32.
"""

import re
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class _SmallStem:
    """Module paths, by what happens to them. `kernel_3` also loses its stride, `identity` was a pooling layer."""

    kernel_3: tuple[str, ...] = ()
    stride_1: tuple[str, ...] = ()
    identity: tuple[str, ...] = ()


# By the whole name of a model; the first pattern that fits counts. VGG has no stem: it keeps its five poolings.
# Vision transformers cut the image into patches of a fixed size.
_SMALL_STEMS: tuple[tuple[str, _SmallStem], ...] = (
    (r"(wide_)?resne(t|xt).*", _SmallStem(kernel_3=("conv1",), identity=("maxpool",))),
    (r"densenet.*", _SmallStem(kernel_3=("features.conv0",), identity=("features.pool0",))),
    (r"googlenet", _SmallStem(kernel_3=("conv1.conv",), identity=("maxpool1",))),
    (r"inception_v3", _SmallStem(stride_1=("Conv2d_1a_3x3.conv",), identity=("maxpool1",))),
    (r"mobilenet_v2", _SmallStem(stride_1=("features.0.0", "features.2.conv.1.0"))),
    (r"mobilenet_v3_large", _SmallStem(stride_1=("features.0.0", "features.2.block.1.0"))),
    (r"mobilenet_v3_small", _SmallStem(stride_1=("features.0.0", "features.1.block.0.0"))),
    (r"efficientnet_b.*", _SmallStem(stride_1=("features.0.0", "features.2.0.block.1.0"))),
    (r"efficientnet_v2_.*", _SmallStem(stride_1=("features.0.0", "features.2.0.block.0.0"))),
    (r"mnasnet.*", _SmallStem(stride_1=("layers.0", "layers.8.0.layers.3"))),
    (r"shufflenet_v2_.*", _SmallStem(stride_1=("conv1.0",), identity=("maxpool",))),
    (
        r"regnet_.*",
        _SmallStem(
            stride_1=(
                "stem.0",
                "trunk_output.block1.block1-0.proj.0",
                "trunk_output.block1.block1-0.f.b.0",
            )
        ),
    ),
    (r"squeezenet1_0", _SmallStem(kernel_3=("features.0",), identity=("features.2",))),
    (r"squeezenet1_1", _SmallStem(kernel_3=("features.0",), identity=("features.2",))),
    (r"convnext_.*", _SmallStem(kernel_3=("features.0.0",))),
    (r"alexnet", _SmallStem(kernel_3=("features.0",))),
)


def has_small_stem(name: str) -> bool:
    """Whether the torchvision model of this name can be given a small stem."""
    return _small_stem(name) is not None


def shrink_stem(model: nn.Module, name: str) -> None:
    """Give `model`, just built under `name`, its small stem, in place. `has_small_stem(name)` must hold."""
    stem = _small_stem(name)
    assert stem is not None, name
    for path in stem.kernel_3:
        replace_conv(model, path, kernel_size=3, stride=1, padding=1)
    for path in stem.stride_1:
        conv = model.get_submodule(path)
        assert isinstance(conv, nn.Conv2d), path
        conv.stride = (1, 1)
    for path in stem.identity:
        model.set_submodule(path, nn.Identity())


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
    }
    new = nn.Conv2d(**{**arguments, **changes})  # type: ignore[arg-type]  # a dict of mixed argument types
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    if new.bias is not None:
        nn.init.zeros_(new.bias)
    model.set_submodule(path, new)


def _small_stem(name: str) -> _SmallStem | None:
    for pattern, stem in _SMALL_STEMS:
        if re.fullmatch(pattern, name):
            return stem
    return None
