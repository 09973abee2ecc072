"""Taps are found where the paper has them, named and looked up by one scheme, and paired shallow to deep."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from abcore.architectures import build_model
from abcore.specs.architectures import ImageShape, ModelSpec
from abcore.specs.refusals import Refusal
from abcore.specs.reports import TapPoint
from abcore.taps import find_taps, pair_taps, resolve_taps, tap_candidates
from abcore.taps.layout import as_feature_map

SMALL = ImageShape(channels=3, height=32, width=32)
LARGE = ImageShape(channels=3, height=224, width=224)
WRN = {"arch": "wide_resnet", "depth": 16, "width": 2}


def zoo(name: str) -> dict[str, object]:
    return {"arch": "torchvision", "name": name}


def build(architecture: dict[str, object], image: ImageShape) -> nn.Module:
    spec = ModelSpec.model_validate({"architecture": architecture, "image": image, "num_classes": 10})
    with torch.device("meta"):
        return build_model(spec)


def shapes(taps: tuple[TapPoint, ...]) -> list[str]:
    return [f"{tap.channels}@{tap.height}" for tap in taps]


@pytest.mark.parametrize(
    ("architecture", "image", "expected"),
    [
        (WRN, SMALL, ["32@32", "64@16", "128@8"]),
        ({"arch": "wide_resnet", "depth": 28, "width": 10}, SMALL, ["160@32", "320@16", "640@8"]),
        (zoo("resnet18"), LARGE, ["64@56", "128@28", "256@14", "512@7"]),
        (zoo("resnet50"), LARGE, ["256@56", "512@28", "1024@14", "2048@7"]),
        (zoo("mobilenet_v2"), LARGE, ["144@56", "192@28", "576@14", "1280@7"]),
        (zoo("resnet18"), SMALL, ["64@32", "128@16", "256@8", "512@4"]),
        (zoo("mobilenet_v2"), SMALL, ["144@32", "192@16", "576@8", "1280@4"]),
        (zoo("vgg11_bn"), LARGE, ["256@56", "512@28", "512@14"]),
        (zoo("densenet121"), LARGE, ["256@56", "512@28", "1024@14", "1024@7"]),
        # No point of these that all paths run through: the largest share of them.
        (zoo("shufflenet_v2_x1_0"), LARGE, ["58@56", "116@28", "232@14", "1024@7"]),
        # Channels last at the activation.
        (zoo("convnext_tiny"), LARGE, ["384@56", "768@28", "1536@14", "3072@7"]),
        (zoo("vit_b_16"), LARGE, []),
    ],
)
def test_taps_of_a_family(architecture: dict[str, object], image: ImageShape, expected: list[str]) -> None:
    assert shapes(find_taps(build(architecture, image), image)) == expected


def test_paper_names_of_a_wide_resnet_are_its_taps() -> None:
    model = build(WRN, SMALL)
    named = resolve_taps(model, SMALL, ["block2.layer.0.bn1", "block3.layer.0.bn1", "bn1"])
    assert named == find_taps(model, SMALL)
    assert [tap.name for tap in named] == ["block2.layer.0.relu1", "block3.layer.0.relu1", "relu"]


def test_resnet_taps_are_the_residual_sums_before_the_last_relu_of_a_stage() -> None:
    names = [tap.name for tap in find_taps(build(zoo("resnet18"), LARGE), LARGE)]
    assert names == ["layer1.1.relu#1", "layer2.1.relu#1", "layer3.1.relu#1", "layer4.1.relu#1"]


@pytest.mark.parametrize("architecture", [WRN, zoo("resnet18"), zoo("mobilenet_v3_small")])
def test_found_taps_pass_the_detach_test_and_what_follows_at_their_scale_fails_it(
    architecture: dict[str, object],
) -> None:
    model = build(architecture, SMALL).eval().requires_grad_(False)
    taps = {tap.name for tap in find_taps(model, SMALL)}
    last_of_scale: dict[int, list[str]] = {}
    for tap in tap_candidates(model, SMALL):
        last_of_scale.setdefault(tap.height, []).append(tap.name)
    assert taps
    for names in last_of_scale.values():
        chosen = [name for name in names if name in taps]
        if chosen:
            after = names[names.index(chosen[0]) + 1 :]
            assert cuts_off_the_image(model, chosen[0])
            assert not any(cuts_off_the_image(model, name) for name in after)


def cuts_off_the_image(model: nn.Module, name: str) -> bool:
    """The design's own rule, carried out: detach there, and see whether a gradient still reaches the image."""
    path, _, call = name.partition("#")
    calls = 0

    def detach(_: nn.Module, arguments: tuple[Tensor, ...]) -> Tensor | None:
        nonlocal calls
        calls += 1
        return arguments[0].detach() if calls - 1 == int(call or 0) else None

    hook = model.get_submodule(path).register_forward_pre_hook(detach)
    image = torch.zeros(2, 3, 32, 32, device="meta", requires_grad=True)
    logits = model(image.clone())
    hook.remove()
    return not logits.requires_grad


def test_the_model_is_left_exactly_as_it_was() -> None:
    torch.manual_seed(0)
    model = build_model(ModelSpec.model_validate({"architecture": WRN, "image": SMALL, "num_classes": 10}))
    model.block1.eval()
    model.fc.weight.requires_grad_(False)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    generator = torch.get_rng_state()
    find_taps(model, SMALL)
    resolve_taps(model, SMALL, ["bn1"])
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.fc.parameters()] == [False, True]
    assert torch.equal(torch.get_rng_state(), generator)
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_a_pruned_teacher_is_searched_without_touching_its_weights() -> None:
    from torch.nn.utils import prune

    model = build_model(ModelSpec.model_validate({"architecture": WRN, "image": SMALL, "num_classes": 10}))
    prune.l1_unstructured(model.block2.layer[0].conv1, "weight", amount=0.5)
    weight = model.block2.layer[0].conv1.weight
    assert len(find_taps(model, SMALL)) == 3
    assert model.block2.layer[0].conv1.weight is weight
    assert weight.device.type == "cpu"


class _Functional(nn.Module):
    """Activations as functions and methods, in place and not, one of them in an inner module."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
        self.conv3 = nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.act = nn.Hardswish(inplace=True)
        self.fc = nn.Linear(12, 10)

    def forward(self, images: Tensor) -> Tensor:
        first = functional.relu(self.conv1(images), inplace=True)
        second = (self.conv2(first) + first).relu_()
        third = self.act(self.conv3(second))
        logits: Tensor = self.fc(third.mean((2, 3)))
        return logits


def test_functional_activations_are_named_by_the_module_that_calls_them() -> None:
    model = _Functional()
    assert [tap.name for tap in tap_candidates(model, SMALL)] == ["relu()#0", "relu()#1", "act"]
    assert [tap.name for tap in find_taps(model, SMALL)] == ["relu()#1", "act"]
    assert [tap.name for tap in resolve_taps(model, SMALL, ["conv1", "conv3"])] == ["relu()#0", "act"]


class _Positions(nn.Module):
    """An activation of a learnt table, which no image has any part in."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(1, 8, 32, 32))
        self.conv = nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        features = functional.relu(self.conv(images))
        return (features + functional.gelu(self.table)).mean((2, 3))


def test_what_no_gradient_could_reach_is_no_tap() -> None:
    class Detached(_Split):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images).detach()

    assert find_taps(Detached(), SMALL) == ()


def test_what_does_not_depend_on_the_image_is_no_candidate() -> None:
    assert [tap.name for tap in tap_candidates(_Positions(), SMALL)] == ["relu()"]


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((2, 96, 8, 8), (32, 32), (96, 8, 8)),
        ((2, 8, 8, 96), (32, 32), (96, 8, 8)),
        ((2, 16, 4, 3), (32, 24), (16, 4, 3)),
        ((2, 64, 1, 1), (32, 32), (64, 1, 1)),
        ((8, 16, 8, 8), (32, 32), None),  # windows: four of each image
        ((2, 64, 96), (32, 32), None),  # tokens
        ((2, 16, 4, 32), (32, 32), None),
    ],
)
def test_feature_maps_are_told_from_other_tensors(
    shape: tuple[int, ...], size: tuple[int, int], expected: tuple[int, ...] | None
) -> None:
    found = as_feature_map(torch.empty(shape, device="meta"), size, batch_size=2)
    assert (None if found is None else tuple(found.shape[1:])) == expected


class _Split(nn.Module):
    """Half of the features go through an activation, half around it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.fc = nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        through, around = functional.silu(self.conv(images)).chunk(2, dim=1)
        features = torch.cat([functional.relu(through), around], dim=1)
        logits: Tensor = self.fc(features.mean((2, 3)))
        return logits


def test_half_of_a_split_is_not_all_of_it() -> None:
    assert [tap.name for tap in find_taps(_Split(), SMALL)] == ["silu()"]


def test_a_residual_branch_is_not_taken_for_the_sum_that_is_written_into_it() -> None:
    # torchvision's block adds in place: bn2's result is the tensor that relu reads, with another content.
    model = build(zoo("resnet18"), SMALL)
    branch, total = resolve_taps(model, SMALL, ["layer1.1.bn2", "layer1.1.relu#1"])
    assert (branch.name, total.name) == ("layer1.1.bn2", "layer1.1.relu#1")


@pytest.mark.parametrize(
    ("names", "code", "says"),
    [
        (["block2.layer.0.relu9"], "taps.not_found", "no module"),
        (["block2.layer.0.relu1#1"], "taps.not_found", "called 1 times"),
        (["relu#x"], "taps.not_found", "number of a call"),
        (["block2.relu()"], "taps.not_found", "calls no relu"),
        (["fc"], "taps.not_a_map", r"\(10,\)"),
        (["bn1", "block2.layer.0.bn1"], "taps.order", "comes before"),
    ],
)
def test_names_that_mean_nothing_are_refused(names: list[str], code: str, says: str) -> None:
    with pytest.raises(Refusal, match=says) as refused:
        resolve_taps(build(WRN, SMALL), SMALL, names, where="recipe.taps.student")
    assert refused.value.problem.code == code
    assert refused.value.problem.where == f"recipe.taps.student[{len(names) - 1}]"


def test_taps_of_parallel_branches_are_listed_by_scale_and_accepted_as_listed() -> None:
    # Inception halves the resolution in one branch before another branch has left the larger one.
    model = build(zoo("inception_v3"), LARGE)
    taps = find_taps(model, LARGE)
    assert shapes(taps) == ["192@52", "96@25", "384@12", "448@5"]
    assert resolve_taps(model, LARGE, [tap.name for tap in taps]) == taps


def test_a_near_name_is_suggested() -> None:
    with pytest.raises(Refusal) as refused:
        resolve_taps(build(WRN, SMALL), SMALL, ["block2.layers.0.relu1"])
    assert "block2.layer.0.relu1" in refused.value.problem.allowed


def test_a_module_that_is_called_several_times_needs_the_call() -> None:
    with pytest.raises(Refusal) as refused:
        resolve_taps(build(zoo("resnet50"), SMALL), SMALL, ["layer2.3.relu"])
    assert refused.value.problem.code == "taps.ambiguous"
    assert refused.value.problem.allowed == ("layer2.3.relu#0", "layer2.3.relu#1", "layer2.3.relu#2")


@pytest.mark.parametrize(
    ("name", "hint"), [("layer1", "layer1.1.relu#1"), ("layer2.0", "layer2.0.relu#1"), ("maxpool", "'relu'")]
)
def test_a_tap_after_the_activation_is_refused_and_its_pre_activation_named(name: str, hint: str) -> None:
    with pytest.raises(Refusal) as refused:
        resolve_taps(build(zoo("resnet18"), SMALL), SMALL, [name])
    assert refused.value.problem.code == "taps.post_activation"
    assert refused.value.problem.hint is not None
    assert hint in refused.value.problem.hint


@pytest.mark.parametrize(("name", "tap"), [("resnet18", "maxpool"), ("mobilenet_v2", "features.0")])
def test_pools_of_activations_and_relu6_are_refused_too(name: str, tap: str) -> None:
    with pytest.raises(Refusal) as refused:
        resolve_taps(build(zoo(name), LARGE), LARGE, [tap])
    assert refused.value.problem.code == "taps.post_activation"


def points(*sizes: int) -> tuple[TapPoint, ...]:
    return tuple(TapPoint(name=f"at{size}", channels=8, height=size, width=size) for size in sizes)


@pytest.mark.parametrize(
    ("students", "teachers", "expected"),
    [
        ((32, 16, 8), (32, 16, 8), [(32, 32), (16, 16), (8, 8)]),
        ((8, 4, 2), (32, 16, 8), [(8, 32), (4, 16), (2, 8)]),
        ((32, 16, 8), (32, 16, 8, 4), [(32, 32), (16, 16), (8, 4)]),
        ((32, 16, 8, 4), (16, 8), [(16, 16), (4, 8)]),
        ((56, 28, 14, 7), (14,), [(7, 14)]),
    ],
)
def test_taps_are_paired_by_scale_and_the_deepest_always(
    students: tuple[int, ...], teachers: tuple[int, ...], expected: list[tuple[int, int]]
) -> None:
    pairs = pair_taps(points(*students), points(*teachers))
    assert [(pair.student.height, pair.teacher.height) for pair in pairs] == expected


def test_of_equal_choices_the_deeper_taps_are_paired() -> None:
    upper, lower, last = (
        TapPoint(name=name, channels=8, height=size, width=size)
        for name, size in (("upper", 16), ("lower", 16), ("last", 8))
    )
    pairs = pair_taps(points(16, 8), (upper, lower, last))
    assert [pair.teacher.name for pair in pairs] == ["lower", "last"]


@pytest.mark.parametrize(("names"), [("resnet18", "mobilenet_v2"), ("vgg11_bn", "resnet50")])
def test_pairs_of_different_families_go_down_in_both(names: tuple[str, str]) -> None:
    student, teacher = (find_taps(build(zoo(name), LARGE), LARGE) for name in names)
    pairs = pair_taps(student, teacher)
    assert len(pairs) == min(len(student), len(teacher))
    for upper, lower in pairwise(pairs):
        assert student.index(upper.student) < student.index(lower.student)
        assert teacher.index(upper.teacher) < teacher.index(lower.teacher)


def test_a_network_without_taps_cannot_be_paired() -> None:
    with pytest.raises(Refusal, match=r"the teacher has no tap point.*at16 \(8x16x16\)") as refused:
        pair_taps(points(16, 8), ())
    assert refused.value.problem.code == "taps.none"
    assert refused.value.problem.where == "teacher"
