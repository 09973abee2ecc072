"""A network written out as a list of layers, so that a student needs no Python.

    {"arch": "layers", "layers": [
        {"type": "conv", "out_channels": 16}, {"type": "batch_norm"}, {"type": "activation"},
        {"type": "residual", "layers": [
            {"type": "conv", "out_channels": 32, "stride": 2}, {"type": "batch_norm"}]},
        {"type": "depthwise_separable", "out_channels": 64, "stride": 2}]}

Input channels, image size and classes are not part of it: shapes are inferred from layer to layer, and a head (global
average pooling where feature maps are left, then a linear layer to the classes) is always added as `head`.

A layer's module goes by its `name`, or else by its type and its number among its siblings of that type: `conv1`,
`conv2`. Those names are the keys of the state dict and of tap points.
"""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, model_validator

from abcore.specs.base import Spec

ActivationName = Literal["elu", "gelu", "hardswish", "leaky_relu", "mish", "prelu", "relu", "relu6", "silu"]
KernelSize = Annotated[int, Field(ge=1, le=31, description="Side of the square window, in pixels.")]
Stride = Annotated[int, Field(ge=1, le=8, description="Pixels from one window to the next.")]
Width = Annotated[int, Field(ge=1, le=16_384, description="Feature maps after the layer.")]

MOST_LAYERS = 1000
MOST_LEVELS = 6


class _Layer(Spec):
    name: str | None = Field(
        default=None,
        pattern=r"^[a-z][a-z0-9_]{0,39}$",
        description="Name of the module among its siblings. Null: type and number, as in `conv2`.",
    )


class Conv(_Layer):
    """A 2-d convolution; weights drawn by fan-out (He et al. 2015, arXiv 1502.01852)."""

    type: Literal["conv"]
    out_channels: Width
    kernel_size: KernelSize = 3
    stride: Stride = 1
    padding: int | None = Field(
        default=None,
        ge=0,
        le=31,
        description="Pixels on each side. Null: dilation × (kernel_size - 1) / 2, rounded down: keeps the resolution "
        "at stride 1 where the kernel size is odd.",
    )
    dilation: int = Field(default=1, ge=1, le=16)
    groups: Width = Field(default=1, description="Must divide the channels before and after.")
    bias: bool | None = Field(default=None, description="Null: a bias unless a `batch_norm` follows.")


class BatchNorm(_Layer):
    """Batch norm over feature maps or features, with scale and shift."""

    type: Literal["batch_norm"]


class Activation(_Layer):
    """An activation; what it reads is a candidate for a tap."""

    type: Literal["activation"]
    function: ActivationName = "relu"


class Pool(_Layer):
    """Max or average pooling over a square window."""

    type: Literal["pool"]
    kind: Literal["max", "average"] = "max"
    size: KernelSize = 2
    stride: Stride | None = Field(default=None, description="Null: as the size.")
    padding: int = Field(default=0, ge=0, le=15, description="At most half the size.")


class GlobalPool(_Layer):
    """The mean or maximum of each feature map: maps become features."""

    type: Literal["global_pool"]
    kind: Literal["max", "average"] = "average"


class Flatten(_Layer):
    """Feature maps, pixel by pixel, become features."""

    type: Literal["flatten"]


class Linear(_Layer):
    """A hidden fully connected layer. (The one to the classes is added by itself.)"""

    type: Literal["linear"]
    out_features: int = Field(ge=1, le=65_536)
    bias: bool = True


class Dropout(_Layer):
    """Dropout of single values, in training."""

    type: Literal["dropout"]
    probability: float = Field(default=0.5, ge=0, lt=1)


class DepthwiseSeparable(_Layer):
    """Depthwise, then pointwise convolution, each with batch norm and activation (MobileNet, arXiv 1704.04861)."""

    type: Literal["depthwise_separable"]
    out_channels: Width
    kernel_size: KernelSize = 3
    stride: Stride = 1
    activation: ActivationName = "relu"


class InvertedResidual(_Layer):
    """Expansion, depthwise, linear projection; with a shortcut where shapes allow (MobileNetV2, arXiv 1801.04381)."""

    type: Literal["inverted_residual"]
    out_channels: Width
    expansion: int = Field(default=6, ge=1, le=16, description="1: no expansion layer.")
    kernel_size: KernelSize = 3
    stride: Stride = 1
    activation: ActivationName = "relu6"


class Residual(_Layer):
    """Layers with a shortcut around them, and an activation after the sum.

    The shortcut is the identity where the shape stays the same, else a strided 1x1 convolution with batch norm.
    """

    type: Literal["residual"]
    layers: tuple["Layer", ...] = Field(min_length=1, max_length=100)
    activation: ActivationName | None = "relu"


class Repeat(_Layer):
    """The same layers several times over, each time with weights of their own."""

    type: Literal["repeat"]
    times: int = Field(ge=1, le=100)
    layers: tuple["Layer", ...] = Field(min_length=1, max_length=100)


Layer = Annotated[
    Conv
    | BatchNorm
    | Activation
    | Pool
    | GlobalPool
    | Flatten
    | Linear
    | Dropout
    | DepthwiseSeparable
    | InvertedResidual
    | Residual
    | Repeat,
    Field(discriminator="type"),
]


class Layers(Spec):
    """A network written out layer by layer. Shapes are inferred, and the classifier is added at the end."""

    arch: Literal["layers"]
    layers: tuple[Layer, ...] = Field(min_length=1, max_length=500)

    @model_validator(mode="after")
    def _is_bounded(self) -> "Layers":
        if _levels(self.layers) > MOST_LEVELS:
            raise ValueError(f"layers are nested more than {MOST_LEVELS} levels deep")
        count = _count(self.layers)
        if count > MOST_LAYERS:
            raise ValueError(f"{count} layers, repetitions counted; at most {MOST_LAYERS} are allowed")
        return self


def _levels(layers: Iterable[Layer]) -> int:
    return 1 + max(
        (_levels(layer.layers) for layer in layers if isinstance(layer, Residual | Repeat)), default=0
    )


def _count(layers: Iterable[Layer]) -> int:
    total = 0
    for layer in layers:
        inner = _count(layer.layers) if isinstance(layer, Residual | Repeat) else 1
        total += inner * layer.times if isinstance(layer, Repeat) else inner
    return total
