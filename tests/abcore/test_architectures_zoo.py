"""Families beside wide ResNets: published sizes, stems for small images, `auto`, and what each refuses."""

import sys
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from abcore.architectures import build_model, build_on_meta, resolve_auto
from abcore.architectures.auto import VERSIONS
from abcore.architectures.counting import count_macs, count_parameters
from abcore.architectures.small_stems import shrink_stem
from abcore.architectures.timm_zoo import timm_names
from abcore.describe import describe_model
from abcore.specs.architectures import Architecture, ModelSpec
from abcore.specs.refusals import Refusal
from abcore.taps import find_taps


def spec_of(architecture: dict[str, Any], side: int = 32, channels: int = 3, classes: int = 10) -> ModelSpec:
    image = {"channels": channels, "height": side, "width": side}
    return ModelSpec.model_validate({"architecture": architecture, "image": image, "num_classes": classes})


def resnet_cifar(depth: int, width: int = 1, shortcut: str = "projection") -> dict[str, Any]:
    return {"arch": "resnet_cifar", "depth": depth, "width": width, "shortcut": shortcut}


def zoo(name: str, **fields: Any) -> dict[str, Any]:
    return {"arch": "torchvision", "name": name, **fields}


def scales(spec: ModelSpec) -> list[int]:
    return [tap.height for tap in find_taps(build_on_meta(spec), spec.image)]


@pytest.mark.parametrize(
    ("architecture", "classes", "expected"),
    [
        # With padding shortcuts, as He et al. count them (0.27, 0.46, 0.85 and 1.7 million).
        (resnet_cifar(20, shortcut="padding"), 10, 269_722),
        (resnet_cifar(32, shortcut="padding"), 10, 464_154),
        (resnet_cifar(56, shortcut="padding"), 10, 853_018),
        (resnet_cifar(110, shortcut="padding"), 10, 1_727_962),
        # With projections, on CIFAR-100, as in the distillation literature (0.28, 0.86, 1.23 and 7.43 million).
        (resnet_cifar(20), 100, 278_324),
        (resnet_cifar(56), 100, 861_620),
        (resnet_cifar(8, 4), 100, 1_233_540),
        (resnet_cifar(32, 4), 100, 7_433_860),
    ],
)
def test_cifar_resnets_have_the_published_number_of_parameters(
    architecture: dict[str, Any], classes: int, expected: int
) -> None:
    assert count_parameters(build_on_meta(spec_of(architecture, classes=classes))) == expected


def test_cifar_resnets_are_tapped_at_their_residual_sums() -> None:
    spec = spec_of(resnet_cifar(14, 2))
    taps = find_taps(build_on_meta(spec), spec.image)
    assert [(tap.name, tap.channels, tap.height) for tap in taps] == [
        ("layer1.1.relu#1", 32, 32),
        ("layer2.1.relu#1", 64, 16),
        ("layer3.1.relu#1", 128, 8),
    ]


def test_padding_shortcuts_keep_every_second_pixel_and_add_empty_channels() -> None:
    model = build_model(spec_of(resnet_cifar(8, shortcut="padding")))
    features = torch.randn(2, 16, 8, 8)
    shortcut = model.layer2[0].downsample(features)
    assert torch.equal(shortcut[:, 8:24], features[:, :, ::2, ::2])
    assert not shortcut[:, :8].any()
    assert not shortcut[:, 24:].any()


@pytest.mark.parametrize("shortcut", ["projection", "padding"])
def test_cifar_resnets_classify_images_of_odd_sizes(shortcut: str) -> None:
    spec = spec_of(resnet_cifar(8, shortcut=shortcut), side=9, channels=1)
    assert build_model(spec)(torch.randn(2, 1, 9, 9)).shape == (2, 10)


def test_depths_that_a_family_does_not_have_are_refused_with_the_next_ones() -> None:
    with pytest.raises(ValidationError, match="use 20 or 26"):
        spec_of(resnet_cifar(22))


@pytest.mark.parametrize("name", ["densenet121", "efficientnet_b0", "resnet18", "swin_t"])
def test_small_stems_put_the_stages_at_the_image_and_its_halves(name: str) -> None:
    assert scales(spec_of(zoo(name))) == [32, 16, 8, 4]


def test_small_stems_change_nothing_but_the_stem() -> None:
    small = build_on_meta(spec_of(zoo("mobilenet_v2", stem="small"))).state_dict()
    imagenet = build_on_meta(spec_of(zoo("mobilenet_v2", stem="imagenet"))).state_dict()
    assert {key: value.shape for key, value in small.items()} == {
        key: value.shape for key, value in imagenet.items()
    }
    resnet = build_on_meta(spec_of(zoo("resnet18")))
    assert resnet.conv1.kernel_size == (3, 3)
    assert resnet.layer2[0].conv1.stride == (2, 2)


def test_layers_that_only_lack_padding_are_no_stem() -> None:
    strided = [nn.Conv2d(8, 8, 3, stride=2, padding=1) for _ in range(4)]
    model = nn.Sequential(nn.Conv2d(3, 8, 5), *strided)
    assert shrink_stem(model, channels=3)
    assert model[0].kernel_size == (5, 5)
    assert [conv.stride for conv in strided] == [(1, 1), (1, 1), (2, 2), (2, 2)]


def test_vgg_has_no_stem_to_shrink() -> None:
    assert scales(spec_of(zoo("vgg11_bn"))) == [8, 4, 2]
    with pytest.raises(Refusal) as refused:
        build_on_meta(spec_of(zoo("vgg11_bn", stem="small")))
    assert refused.value.problem.code == "architecture.no_small_stem"


def test_mobilenets_can_be_scaled_and_others_cannot() -> None:
    spec = spec_of(zoo("mobilenet_v2", width_mult=0.5))
    assert count_parameters(build_on_meta(spec)) < 800_000
    with pytest.raises(Refusal, match="no width factor") as refused:
        build_on_meta(spec_of(zoo("resnet18", width_mult=0.5)))
    assert refused.value.problem.where == "architecture.width_mult"


needs_timm = pytest.mark.skipif(find_spec("timm") is None, reason="timm is an optional dependency")


@needs_timm
def test_timm_models_are_built_for_the_image_without_their_weights() -> None:
    spec = spec_of({"arch": "timm", "name": "resnet10t"}, channels=1)
    model = build_model(spec)
    assert model(torch.randn(2, 1, 32, 32)).shape == (2, 10)
    assert scales(spec) == [32, 16, 8, 4]
    vit = spec_of({"arch": "timm", "name": "vit_tiny_patch16_224"}, side=48)
    assert build_model(vit)(torch.randn(2, 3, 48, 48)).shape == (2, 10)


def test_without_timm_its_models_are_refused_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timm_names.cache_clear()
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(Refusal) as refused:
        build_on_meta(spec_of({"arch": "timm", "name": "resnet10t"}))
    assert refused.value.problem.code == "architecture.unavailable"
    assert "abdistill-server[timm]" in str(refused.value.problem.hint)


@needs_timm
@pytest.mark.parametrize(
    ("name", "side", "code", "says"),
    [
        ("resnet10", 32, "architecture.unknown", "no classification model named 'resnet10'"),
        ("vit_tiny_patch16_224", 8, "architecture.image", "cannot be built|cannot take"),
    ],
)
def test_timm_refusals(name: str, side: int, code: str, says: str) -> None:
    with pytest.raises(Refusal, match=says) as refused:
        describe_model(spec_of({"arch": "timm", "name": name}, side=side))
    assert refused.value.problem.code == code


def auto(family: str, **limits: int) -> dict[str, Any]:
    return {"arch": "auto", "family": family, **limits}


def test_auto_takes_the_largest_wide_resnet_within_a_number_of_parameters() -> None:
    resolved = resolve_auto(spec_of(auto("wide_resnet", max_params=700_000))).architecture
    assert resolved.model_dump() == {"arch": "wide_resnet", "depth": 16, "width": 2}  # 691,674


@pytest.mark.parametrize(
    ("family", "limits"),
    [
        ("mnasnet", {"max_macs": 75_000_000}),
        ("resnet_cifar", {"max_size_bytes": 3_000_000, "max_params": 10**9}),
    ],
)
def test_auto_stays_within_the_limits_and_comes_close(family: str, limits: dict[str, int]) -> None:
    description = describe_model(spec_of(auto(family, **limits)))
    used = {"max_macs": description.num_macs, "max_size_bytes": description.size_bytes}
    nearest = max(used[name] / limit for name, limit in limits.items() if name in used)
    assert 0.5 < nearest <= 1
    assert description.spec.architecture.arch != "auto"


def test_auto_is_built_as_what_it_resolves_to() -> None:
    spec = spec_of(auto("resnet_cifar", max_params=100_000))
    resolved = resolve_auto(spec)
    assert resolve_auto(resolved) is resolved
    assert build_model(spec).state_dict().keys() == build_model(resolved).state_dict().keys()


def test_auto_refuses_limits_below_the_smallest_version_with_its_figures() -> None:
    with pytest.raises(Refusal, match=r"name resnet18.* \(11,173,962 parameters of 1,000\)") as refused:
        resolve_auto(spec_of(auto("resnet", max_params=1000)))
    assert refused.value.problem.code == "architecture.limits"


def test_auto_needs_a_limit() -> None:
    with pytest.raises(ValidationError, match="at least one limit"):
        spec_of(auto("resnet"))


SMALLEST = VERSIONS["wide_resnet"][0][0]
ROWS = [row for rows in VERSIONS.values() for row in rows]


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, id=f"{row[0].arch}-{index}", marks=[] if row[0] == SMALLEST else pytest.mark.slow)
        for index, row in enumerate(ROWS)
    ],
)
def test_versions_of_auto_grow_along_their_row(row: tuple[Architecture, ...]) -> None:
    specs = [spec_of(version.model_dump(), side=64) for version in row]
    models = [build_on_meta(spec) for spec in specs]
    parameters = [count_parameters(model) for model in models]
    macs = [count_macs(model, specs[0].image) for model in models]
    assert parameters == sorted(parameters)
    assert macs == sorted(macs)
