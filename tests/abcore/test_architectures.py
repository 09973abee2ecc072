"""Networks are built as their specs say: published sizes, working forward passes, refusals that help."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from abcore.architectures import build_model, build_on_meta
from abcore.architectures.torchvision_import import import_torchvision
from abcore.architectures.torchvision_zoo import torchvision_names
from abcore.specs.architectures import ImageShape, ModelSpec, Torchvision, WideResNet
from abcore.specs.refusals import Refusal

CIFAR = ImageShape(channels=3, height=32, width=32)


def spec_of(
    architecture: WideResNet | Torchvision, image: ImageShape = CIFAR, classes: int = 10
) -> ModelSpec:
    return ModelSpec(architecture=architecture, image=image, num_classes=classes)


def wide_resnet(depth: int, width: int) -> WideResNet:
    return WideResNet(arch="wide_resnet", depth=depth, width=width)


def torchvision(name: str, stem: str = "auto") -> Torchvision:
    return Torchvision.model_validate({"arch": "torchvision", "name": name, "stem": stem})


def num_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("depth", "width", "expected"),
    [(16, 1, 175_066), (16, 2, 691_674), (22, 4, 4_298_970), (28, 10, 36_479_194)],
)
def test_wide_resnet_has_the_published_number_of_parameters(depth: int, width: int, expected: int) -> None:
    assert num_parameters(build_on_meta(spec_of(wide_resnet(depth, width)))) == expected


def test_wide_resnet_has_the_modules_that_the_paper_taps() -> None:
    model = build_on_meta(spec_of(wide_resnet(16, 2)))
    channels = [
        model.get_submodule(name).num_features for name in ("block2.layer.0.bn1", "block3.layer.0.bn1", "bn1")
    ]
    assert channels == [32, 64, 128]


def test_wide_resnet_classifies_images_of_other_shapes() -> None:
    model = build_model(spec_of(wide_resnet(10, 1), ImageShape(channels=1, height=8, width=12), classes=7))
    assert model(torch.randn(2, 1, 8, 12)).shape == (2, 7)


def test_weights_come_from_the_global_generator() -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return nn.utils.parameters_to_vector(build_model(spec_of(wide_resnet(10, 1))).parameters())

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


def test_building_on_meta_leaves_the_generator_alone() -> None:
    before = torch.get_rng_state()
    build_on_meta(spec_of(torchvision("regnet_y_400mf")))
    assert torch.equal(torch.get_rng_state(), before)


def test_too_many_parameters_are_refused_before_anything_is_allocated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The limit comes down to the network: the largest wide ResNet stays below the real one.
    monkeypatch.setattr("abcore.architectures.MOST_PARAMETERS", 600_000_000)
    made = []
    monkeypatch.setattr(nn.init, "normal_", lambda *_, **__: made.append(_[0].device.type))
    with pytest.raises(Refusal, match="610,409,434 parameters") as refused:
        build_model(spec_of(wide_resnet(100, 20)))
    assert set(made) == {"meta"}
    assert refused.value.problem.code == "architecture.too_large"


def test_convolutions_are_drawn_by_fan_out() -> None:
    torch.manual_seed(0)
    weight = build_model(spec_of(wide_resnet(10, 4))).block3.layer[0].conv2.weight
    assert weight.std().item() == pytest.approx((2 / (9 * 256)) ** 0.5, rel=0.01)


def naive_wide_resnet(weights: dict[str, Tensor], images: Tensor) -> Tensor:
    """Zagoruyko and Komodakis 2016, table 1 and figure 1, written out for one block a group, in evaluation mode."""

    def norm_relu(features: Tensor, name: str) -> Tensor:
        mean, var, scale, shift = (
            weights[f"{name}.{key}"].view(1, -1, 1, 1)
            for key in ("running_mean", "running_var", "weight", "bias")
        )
        return ((features - mean) / (var + 1e-5).sqrt() * scale + shift).clamp(min=0)

    features = conv2d(images, weights["conv1.weight"], padding=1)
    for group, stride in ((1, 1), (2, 2), (3, 2)):
        block = f"block{group}.layer.0"
        activated = norm_relu(features, f"{block}.bn1")
        residual = conv2d(activated, weights[f"{block}.conv1.weight"], stride=stride, padding=1)
        residual = conv2d(norm_relu(residual, f"{block}.bn2"), weights[f"{block}.conv2.weight"], padding=1)
        features = residual + conv2d(activated, weights[f"{block}.convShortcut.weight"], stride=stride)
    pooled = norm_relu(features, "bn1").mean((2, 3))
    return pooled @ weights["fc.weight"].T + weights["fc.bias"]


def test_wide_resnet_computes_what_the_paper_writes() -> None:
    torch.manual_seed(0)
    model = build_model(spec_of(wide_resnet(10, 2))).double()
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    model(images)  # gives the running statistics values of their own
    model.eval()
    torch.testing.assert_close(model(images), naive_wide_resnet(model.state_dict(), images))


def test_torchvision_names_are_classification_models_only() -> None:
    names = torchvision_names()
    assert {"resnet18", "mobilenet_v2", "vit_b_16"} <= set(names)
    assert not {"fasterrcnn_resnet50_fpn", "deeplabv3_resnet50", "r3d_18", "raft_large"} & set(names)


def test_torchvision_is_imported_once() -> None:
    assert import_torchvision() is import_torchvision()


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenet_v2", "densenet121", "vgg11_bn"])
def test_torchvision_models_have_their_documented_number_of_parameters(name: str) -> None:
    models = import_torchvision().models
    documented = models.get_model_weights(name).DEFAULT.meta["num_params"]
    large = ImageShape(channels=3, height=224, width=224)
    assert num_parameters(build_on_meta(spec_of(torchvision(name), large, classes=1000))) == documented


def test_torchvision_takes_other_channels_and_classes() -> None:
    model = build_model(spec_of(torchvision("mobilenet_v2"), ImageShape(channels=1, height=28, width=28), 7))
    assert model(torch.randn(2, 1, 28, 28)).shape == (2, 7)


def test_small_images_keep_their_resolution_in_the_stem() -> None:
    seen: list[torch.Size] = []
    for stem in ("auto", "imagenet"):
        model = build_on_meta(spec_of(torchvision("resnet18", stem)))
        model.layer1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
        model(torch.empty(2, 3, 32, 32, device="meta"))
    assert [shape[-1] for shape in seen] == [32, 8]


def test_large_images_keep_the_stem_of_the_zoo() -> None:
    model = build_on_meta(spec_of(torchvision("resnet18"), ImageShape(channels=3, height=224, width=224)))
    assert model.conv1.kernel_size == (7, 7)


def test_unknown_model_is_refused_with_near_names() -> None:
    with pytest.raises(Refusal, match="resnet19") as refused:
        build_model(spec_of(torchvision("resnet19")))
    problem = refused.value.problem
    assert problem.code == "architecture.unknown"
    assert problem.where == "architecture.name"
    assert "resnet18" in problem.allowed
    assert len(problem.allowed) <= 8


def test_small_stem_is_refused_where_there_is_none() -> None:
    with pytest.raises(Refusal) as refused:
        build_model(spec_of(torchvision("vit_b_16", "small")))
    assert refused.value.problem.where == "architecture.stem"


def test_transformer_refuses_images_that_its_patches_do_not_fill() -> None:
    with pytest.raises(Refusal, match="multiple of its 16-pixel patches") as refused:
        build_model(spec_of(torchvision("vit_b_16"), ImageShape(channels=3, height=40, width=40)))
    assert refused.value.problem.where == "image"
