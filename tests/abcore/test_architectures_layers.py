"""A network written as a list of layers is what the list says, and a list that cannot be is refused at the layer."""

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from abcore.architectures import build_model
from abcore.describe import describe_model
from abcore.specs.architectures import ModelSpec
from abcore.specs.refusals import Refusal
from abcore.taps import TapCapture, find_taps

IMAGE = {"channels": 3, "height": 32, "width": 24}
CONV: dict[str, Any] = {"type": "conv", "out_channels": 8}
NORM = {"type": "batch_norm"}
ACT = {"type": "activation"}
HALF = {**CONV, "stride": 2}


def spec_of(*layers: dict[str, Any]) -> ModelSpec:
    return ModelSpec.model_validate(
        {"architecture": {"arch": "layers", "layers": layers}, "image": IMAGE, "num_classes": 5}
    )


STUDENT = spec_of(
    {**CONV, "out_channels": 16},
    NORM,
    ACT,
    {
        "type": "residual",
        "layers": [{**CONV, "out_channels": 16}, NORM, ACT, {**CONV, "out_channels": 16}, NORM],
    },
    {"type": "residual", "name": "down", "layers": [{**HALF, "out_channels": 32}, NORM]},
    {"type": "repeat", "times": 2, "layers": [{"type": "inverted_residual", "out_channels": 32}]},
    {"type": "depthwise_separable", "out_channels": 64, "stride": 2, "activation": "hardswish"},
    {"type": "dropout"},
    {"type": "global_pool"},
    {"type": "linear", "out_features": 20},
    {**ACT, "function": "gelu"},
)


def test_layers_of_every_kind_make_a_network_that_classifies() -> None:
    torch.manual_seed(0)
    model = build_model(STUDENT)
    assert model(torch.randn(4, 3, 32, 24)).shape == (4, 5)


def test_every_layer_is_reached_by_the_gradient() -> None:
    torch.manual_seed(0)
    model = build_model(STUDENT)
    model(torch.randn(4, 3, 32, 24)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_modules_go_by_their_names_or_by_type_and_number() -> None:
    paths = {path for path, _ in build_model(STUDENT).named_modules()}
    assert {
        "conv1",
        "residual1.body.conv2",
        "down.shortcut.conv",
        "repeat1.1.inverted_residual1.body.expand",
        "depthwise_separable1.pointwise",
        "linear1",
        "head.fc",
    } <= paths


def test_taps_are_found_in_layers() -> None:
    model = build_model(STUDENT)
    taps = find_taps(model, STUDENT.image)
    assert [(tap.name, tap.channels, tap.height, tap.width) for tap in taps] == [
        ("residual1.activation", 16, 32, 24),
        ("down.activation", 32, 16, 12),
        ("depthwise_separable1.activation2", 64, 8, 6),
    ]
    with TapCapture(model, [tap.name for tap in taps]) as capture:
        assert [preact.shape[1] for preact in capture.until_last_tap(torch.randn(2, 3, 32, 24))] == [
            16,
            32,
            64,
        ]


def test_number_of_parameters_counted_by_hand() -> None:
    spec = spec_of(
        CONV, NORM, ACT, {"type": "pool"}, {**CONV, "groups": 4, "kernel_size": 5}, {"type": "flatten"}
    )
    # Without a bias before the norm, with one after; flattened 8 x 16 x 12 features into 5 classes.
    expected = 3 * 8 * 9 + 2 * 8 + (8 // 4 * 8 * 25 + 8) + 8 * 16 * 12 * 5 + 5
    assert describe_model(spec).num_parameters == expected


@pytest.mark.parametrize(
    ("padding", "stride", "dilation", "side"),
    [(None, 1, 1, 32), (None, 2, 1, 16), (0, 1, 1, 30), (None, 1, 3, 32)],
)
def test_inferred_shapes_are_those_of_torch(
    padding: int | None, stride: int, dilation: int, side: int
) -> None:
    layer = {**CONV, "padding": padding, "stride": stride, "dilation": dilation}
    model = build_model(spec_of(layer, {"type": "flatten"}))
    features = model.get_submodule("conv1")(torch.randn(1, 3, 32, 24))
    assert features.shape[2] == side
    assert model.get_submodule("head.fc").in_features == features[0].numel()


def test_a_shortcut_is_the_identity_where_the_shape_stays() -> None:
    same = build_model(spec_of(CONV, {"type": "residual", "layers": [CONV]}))
    other = build_model(spec_of(CONV, {"type": "residual", "layers": [HALF]}))
    assert isinstance(same.get_submodule("residual1.shortcut"), nn.Identity)
    assert other.get_submodule("residual1.shortcut.conv").stride == (2, 2)


@pytest.mark.parametrize(("stride", "channels"), [(1, 8), (1, 12), (2, 8)])
def test_inverted_residuals_have_a_shortcut_where_the_shape_stays(stride: int, channels: int) -> None:
    layer = {"type": "inverted_residual", "out_channels": channels, "stride": stride, "expansion": 1}
    model = build_model(spec_of(CONV, layer)).eval()
    block = model.get_submodule("inverted_residual1")
    features = torch.randn(1, 8, 32, 24)
    assert block(features).shape == (1, channels, 32 // stride, 24 // stride)
    if (stride, channels) == (1, 8):
        assert torch.equal(block(features), block.get_submodule("body")(features) + features)


@pytest.mark.parametrize(
    ("layers", "where", "says"),
    [
        (
            [{"type": "linear", "out_features": 4}],
            "[0]",
            "'linear1' .linear.: it reads features, not maps of 3x32x24",
        ),
        (
            [CONV, {"type": "flatten"}, CONV],
            "[2]",
            "'conv2' .conv.: it reads feature maps, not 6144 features",
        ),
        (
            [CONV, {**CONV, "name": "wide", "groups": 3}],
            "[1]",
            "'wide' .conv.: 3 groups do not divide 8 channels",
        ),
        (
            [{"type": "pool", "size": 20}, {"type": "pool", "size": 4}],
            "[1]",
            "window of 4 pixels does not fit",
        ),
        ([{"type": "pool", "size": 3, "padding": 2}], "[0]", "more than half"),
        ([{"type": "residual", "layers": [{**CONV, "padding": 0}]}], "[0]", "no strided 1x1 convolution"),
        ([{"type": "residual", "layers": [CONV, {"type": "flatten"}]}], "[0]", "no strided 1x1 convolution"),
        (
            [{"type": "repeat", "times": 9, "layers": [CONV, {"type": "pool", "name": "shrink"}]}],
            "[0].layers[1]",
            "'shrink' .pool.: its window of 2 pixels does not fit into maps of 2x1",
        ),
        (
            [{"type": "flatten"}, {"type": "depthwise_separable", "out_channels": 4}],
            "[1]",
            "'depthwise_separable1' .depthwise_separable.: it reads feature maps",
        ),
    ],
)
def test_layers_that_do_not_fit_are_refused_by_name_and_place(
    layers: list[dict[str, Any]], where: str, says: str
) -> None:
    with pytest.raises(Refusal, match=says) as refused:
        build_model(spec_of(*layers))
    assert refused.value.problem.code == "layers.shape"
    assert refused.value.problem.where == f"architecture.layers{where}"


@pytest.mark.parametrize("name", ["conv1", "head", "forward"])
def test_names_that_are_taken_are_refused(name: str) -> None:
    with pytest.raises(Refusal, match=name) as refused:
        build_model(spec_of(CONV, {**CONV, "name": name}))
    assert refused.value.problem.code == "layers.name"


def test_a_huge_layer_is_refused_before_anything_is_allocated() -> None:
    with pytest.raises(Refusal, match="parameters") as refused:
        build_model(
            spec_of({"type": "conv", "out_channels": 16_384}, {"type": "conv", "out_channels": 16_384})
        )
    assert refused.value.problem.code == "architecture.too_large"


def test_nesting_and_repetition_are_bounded() -> None:
    many = {"type": "repeat", "times": 100, "layers": [{"type": "repeat", "times": 11, "layers": [CONV]}]}
    with pytest.raises(ValidationError, match="1100 layers"):
        spec_of(many)
    deep: dict[str, Any] = CONV
    for _ in range(6):
        deep = {"type": "residual", "layers": [deep]}
    with pytest.raises(ValidationError, match="6 levels"):
        spec_of(deep)
