"""Networks written out as lists of layers: each is built for the shape that the ones before it leave."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Never, assert_never

from torch import Tensor, nn

from abcore.specs import layers as specs
from abcore.specs.architectures import ModelSpec
from abcore.specs.refusals import Refusal

_ACTIVATIONS: dict[specs.ActivationName, type[nn.Module]] = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "hardswish": nn.Hardswish,
    "leaky_relu": nn.LeakyReLU,
    "mish": nn.Mish,
    "prelu": nn.PReLU,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "silu": nn.SiLU,
}
HEAD = "head"
"""Name of the layers that are added at the end."""


@dataclass(frozen=True)
class Shape:
    """What one image is at some point: feature maps, or (size None) plain features."""

    channels: int
    size: tuple[int, int] | None

    def __str__(self) -> str:
        if self.size is None:
            return f"{self.channels} features"
        return f"maps of {self.channels}x{self.size[0]}x{self.size[1]}"


def build_layers(architecture: specs.Layers, spec: ModelSpec) -> nn.Module:
    """Build the network; modules go by the names of their layers, the last is `head`.

    Raises:
        Refusal: a layer does not fit what comes before it (`layers.shape`), or two siblings have one name
            (`layers.name`). `where` is the layer's place in the spec.
    """
    shape = Shape(spec.image.channels, (spec.image.height, spec.image.width))
    children, shape = _sequence(architecture.layers, shape, "architecture.layers")
    if HEAD in children:
        raise Refusal(
            "layers.name",
            f"the name {HEAD!r} is taken: it is that of the classifier, which is added at the end",
            where="architecture.layers",
            value=HEAD,
        )
    pool = nn.Identity() if shape.size is None else nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    head = nn.Sequential(OrderedDict(pool=pool, fc=nn.Linear(shape.channels, spec.num_classes)))
    model = nn.Sequential(OrderedDict(children, **{HEAD: head}))
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


@dataclass(frozen=True)
class _Place:
    """Where a layer stands in the spec, for refusals."""

    where: str
    title: str

    def refuse(self, message: str, hint: str) -> Never:
        raise Refusal("layers.shape", f"layer {self.title}: {message}", where=self.where, hint=hint)


def _sequence(
    layers: Sequence[specs.Layer], shape: Shape, where: str, composed: bool = False
) -> tuple["OrderedDict[str, nn.Module]", Shape]:
    """Build layers one after another. `composed`: they are parts of the one at `where`, which is blamed for them."""
    children: OrderedDict[str, nn.Module] = OrderedDict()
    numbers: dict[str, int] = {}
    for index, layer in enumerate(layers):
        numbers[layer.type] = numbers.get(layer.type, 0) + 1
        name = layer.name or f"{layer.type}{numbers[layer.type]}"
        place = _Place(where if composed else f"{where}[{index}]", f"{name!r} ({layer.type})")
        if name in children or hasattr(nn.Sequential, name):
            raise Refusal(
                "layers.name",
                f"two layers are named {name!r}" if name in children else f"a layer cannot be named {name!r}",
                where=place.where,
                value=name,
                hint="Give each layer among its siblings a name of its own, or none.",
            )
        normed = index + 1 < len(layers) and isinstance(layers[index + 1], specs.BatchNorm)
        children[name], shape = _layer(layer, shape, place, normed)
    return children, shape


def _layer(layer: specs.Layer, shape: Shape, place: _Place, normed: bool) -> tuple[nn.Module, Shape]:
    """Build one layer, and say what it leaves. `normed`: a batch norm follows."""
    match layer:
        case specs.Conv():
            return _conv(layer, shape, place, normed)
        case specs.BatchNorm():
            norm = nn.BatchNorm1d if shape.size is None else nn.BatchNorm2d
            return norm(shape.channels), shape
        case specs.Activation():
            return _ACTIVATIONS[layer.function](), shape
        case specs.Pool():
            return _pool(layer, shape, place)
        case specs.GlobalPool():
            _maps(shape, place)
            pool = nn.AdaptiveAvgPool2d(1) if layer.kind == "average" else nn.AdaptiveMaxPool2d(1)
            return nn.Sequential(pool, nn.Flatten()), replace(shape, size=None)
        case specs.Flatten():
            size = _maps(shape, place)
            return nn.Flatten(), Shape(shape.channels * math.prod(size), None)
        case specs.Linear():
            if shape.size is not None:
                place.refuse(
                    f"it reads features, not {shape}", "Put a global_pool or flatten layer before it."
                )
            return nn.Linear(shape.channels, layer.out_features, layer.bias), Shape(layer.out_features, None)
        case specs.Dropout():
            return nn.Dropout(layer.probability), shape
        case specs.DepthwiseSeparable():
            _maps(shape, place)
            return _composed(_separable(layer, shape), shape, place)
        case specs.InvertedResidual():
            return _inverted_residual(layer, shape, place)
        case specs.Residual():
            return _residual(layer, shape, place)
        case specs.Repeat():
            return _repeat(layer, shape, place)
        case unknown:
            assert_never(unknown)


def _maps(shape: Shape, place: _Place) -> tuple[int, int]:
    if shape.size is None:
        place.refuse(
            f"it reads feature maps, not {shape}", "Move it before the global_pool or flatten layer."
        )
    return shape.size


def _conv(layer: specs.Conv, shape: Shape, place: _Place, normed: bool) -> tuple[nn.Module, Shape]:
    size = _maps(shape, place)
    if shape.channels % layer.groups or layer.out_channels % layer.groups:
        place.refuse(
            f"{layer.groups} groups do not divide {shape.channels} channels into {layer.out_channels}",
            f"Use a common divisor: {math.gcd(shape.channels, layer.out_channels)}, for one.",
        )
    reach = layer.dilation * (layer.kernel_size - 1) + 1
    padding = (reach - 1) // 2 if layer.padding is None else layer.padding
    conv = nn.Conv2d(
        shape.channels,
        layer.out_channels,
        layer.kernel_size,
        layer.stride,
        padding,
        layer.dilation,
        layer.groups,
        bias=not normed if layer.bias is None else layer.bias,
    )
    return conv, Shape(layer.out_channels, _slide(size, reach, layer.stride, padding, place))


def _pool(layer: specs.Pool, shape: Shape, place: _Place) -> tuple[nn.Module, Shape]:
    size = _maps(shape, place)
    stride = layer.stride or layer.size
    if layer.padding > layer.size // 2:
        place.refuse(f"padding {layer.padding} is more than half its size {layer.size}", "Pad less.")
    pool = nn.MaxPool2d if layer.kind == "max" else nn.AvgPool2d
    size = _slide(size, layer.size, stride, layer.padding, place)
    return pool(layer.size, stride, layer.padding), replace(shape, size=size)


def _slide(size: tuple[int, int], reach: int, stride: int, padding: int, place: _Place) -> tuple[int, int]:
    """The size of the map that a sliding window leaves."""
    height, width = ((side + 2 * padding - reach) // stride + 1 for side in size)
    if min(height, width) < 1:
        place.refuse(
            f"its window of {reach} pixels does not fit into maps of {size[0]}x{size[1]}",
            "Reduce the resolution less often, or use larger images.",
        )
    return height, width


def _separable(layer: specs.DepthwiseSeparable, shape: Shape) -> tuple[specs.Layer, ...]:
    return (
        specs.Conv(
            type="conv",
            name="depthwise",
            out_channels=shape.channels,
            kernel_size=layer.kernel_size,
            stride=layer.stride,
            groups=shape.channels,
        ),
        specs.BatchNorm(type="batch_norm"),
        specs.Activation(type="activation", function=layer.activation),
        specs.Conv(type="conv", name="pointwise", out_channels=layer.out_channels, kernel_size=1),
        specs.BatchNorm(type="batch_norm"),
        specs.Activation(type="activation", function=layer.activation),
    )


def _inverted_residual(layer: specs.InvertedResidual, shape: Shape, place: _Place) -> tuple[nn.Module, Shape]:
    _maps(shape, place)
    inner = shape.channels * layer.expansion
    act = specs.Activation(type="activation", function=layer.activation)
    norm = specs.BatchNorm(type="batch_norm")
    expand = specs.Conv(type="conv", name="expand", out_channels=inner, kernel_size=1)
    depthwise = specs.Conv(
        type="conv",
        name="depthwise",
        out_channels=inner,
        kernel_size=layer.kernel_size,
        stride=layer.stride,
        groups=inner,
    )
    project = specs.Conv(type="conv", name="project", out_channels=layer.out_channels, kernel_size=1)
    expansion = (expand, norm, act) if layer.expansion > 1 else ()
    body, after = _composed((*expansion, depthwise, norm, act, project, norm), shape, place)
    return (_Shortcut(body, nn.Identity(), nn.Identity()) if after == shape else body), after


def _residual(layer: specs.Residual, shape: Shape, place: _Place) -> tuple[nn.Module, Shape]:
    size = _maps(shape, place)
    body, after = _sequential(layer.layers, shape, place)
    act = nn.Identity() if layer.activation is None else _ACTIVATIONS[layer.activation]()
    if after == shape:
        return _Shortcut(body, nn.Identity(), act), after
    stride = 1 if after.size is None else max(1, round(size[0] / after.size[0]))
    if after.size != tuple(math.ceil(side / stride) for side in size):
        place.refuse(
            f"its layers turn {shape} into {after}; no strided 1x1 convolution does the same for the shortcut",
            "Reduce the resolution inside it by strides with the default padding only.",
        )
    shortcut = nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(shape.channels, after.channels, 1, stride, bias=False),
            bn=nn.BatchNorm2d(after.channels),
        )
    )
    return _Shortcut(body, shortcut, act), after


def _repeat(layer: specs.Repeat, shape: Shape, place: _Place) -> tuple[nn.Module, Shape]:
    repetitions: list[nn.Module] = []
    for _ in range(layer.times):
        repetition, shape = _sequential(layer.layers, shape, place)
        repetitions.append(repetition)
    return nn.Sequential(*repetitions), shape


def _sequential(layers: Sequence[specs.Layer], shape: Shape, place: _Place) -> tuple[nn.Sequential, Shape]:
    children, shape = _sequence(layers, shape, f"{place.where}.layers")
    return nn.Sequential(children), shape


def _composed(layers: Sequence[specs.Layer], shape: Shape, place: _Place) -> tuple[nn.Sequential, Shape]:
    children, shape = _sequence(layers, shape, place.where, composed=True)
    return nn.Sequential(children), shape


class _Shortcut(nn.Module):
    """A body with a shortcut around it, and an activation after the sum."""

    def __init__(self, body: nn.Module, shortcut: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut
        self.activation = activation

    def forward(self, features_BCHW: Tensor) -> Tensor:
        out: Tensor = self.activation(self.body(features_BCHW) + self.shortcut(features_BCHW))
        return out
