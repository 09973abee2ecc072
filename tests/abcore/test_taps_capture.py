"""What is captured is the pre-activation itself, with its gradient, and the network computes what it always does."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from abcore.architectures import build_model
from abcore.specs.architectures import ImageShape, ModelSpec
from abcore.specs.refusals import Refusal
from abcore.taps import TapCapture, find_taps

IMAGE = ImageShape(channels=3, height=32, width=32)


def build(architecture: dict[str, object]) -> nn.Module:
    torch.manual_seed(0)
    return build_model(
        ModelSpec.model_validate({"architecture": architecture, "image": IMAGE, "num_classes": 10})
    )


def images(count: int = 4) -> Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def not_in_place(model: nn.Module) -> nn.Module:
    """A copy of `model` whose modules overwrite nothing, as a reference."""
    model = copy.deepcopy(model)
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    return model


def reference(model: nn.Module, names: list[str], batch: Tensor) -> list[Tensor]:
    """The inputs of activation modules, written down by plain hooks."""
    seen: dict[str, Tensor] = {}
    model = not_in_place(model)
    for path in {name.partition("#")[0] for name in names}:
        calls = iter(range(100))

        def note(_: nn.Module, arguments: tuple[Tensor], path: str = path, calls: object = calls) -> None:
            seen[f"{path}#{next(calls)}"] = arguments[0]  # type: ignore[call-overload]  # an iterator of numbers

        model.get_submodule(path).register_forward_pre_hook(note)
    model(batch)
    return [seen[name if "#" in name else f"{name}#0"] for name in names]


@pytest.mark.parametrize(
    "architecture",
    [
        {"arch": "wide_resnet", "depth": 10, "width": 1},
        {"arch": "torchvision", "name": "resnet18"},  # in-place ReLU modules, each called twice
        {"arch": "torchvision", "name": "mobilenet_v2"},  # ReLU6
        {"arch": "torchvision", "name": "mobilenet_v3_small"},  # Hardswish
        {"arch": "torchvision", "name": "regnet_y_400mf"},
    ],
)
def test_captured_is_what_the_activation_reads_and_the_logits_stay_the_same(
    architecture: dict[str, object],
) -> None:
    model = build(architecture)
    names = [tap.name for tap in find_taps(model, IMAGE)]
    expected = reference(model.eval(), names, images())
    plain = model(images())
    with TapCapture(model, names) as capture:
        logits = model(images())
        preacts = capture.preacts
    assert torch.equal(logits, plain)
    for preact, right, tap in zip(preacts, expected, find_taps(model, IMAGE), strict=True):
        assert torch.equal(preact, right)
        assert preact.shape == (4, tap.channels, tap.height, tap.width)
        assert preact.min() < 0 < preact.max()


def test_gradients_reach_what_comes_before_the_tap_and_nothing_after_it() -> None:
    model = build({"arch": "torchvision", "name": "resnet18"})
    with TapCapture(model, ["layer2.1.relu#1"]) as capture:
        (preact,) = capture.until_last_tap(images())
    preact.square().mean().backward()
    assert model.conv1.weight.grad is not None
    assert model.layer2[1].conv2.weight.grad is not None
    assert model.layer3[0].conv1.weight.grad is None


def test_gradients_equal_those_of_a_network_that_overwrites_nothing() -> None:
    model = build({"arch": "torchvision", "name": "resnet18"})
    plain = not_in_place(model)
    gradients = []
    for network in (model, plain):
        with TapCapture(network, ["layer1.1.relu#1", "layer3.1.relu#1"]) as capture:
            logits = network(images())
            loss = logits.square().sum() + sum(preact.relu().sum() for preact in capture.preacts)
        gradients.append(torch.autograd.grad(loss, network.conv1.weight)[0])
    assert torch.equal(*gradients)


def test_the_rest_of_the_network_is_not_run_after_the_last_tap() -> None:
    model = build({"arch": "wide_resnet", "depth": 10, "width": 1})
    ran = []
    model.fc.register_forward_hook(lambda *_: ran.append("fc"))
    with TapCapture(model, ["relu", "block2.layer.0.relu1"]) as capture:
        stopped = capture.until_last_tap(images())
        assert not ran
        model(images())
        assert ran == ["fc"]
        assert all(torch.equal(*both) for both in zip(stopped, capture.preacts, strict=True))


def test_no_hook_is_left_and_each_pass_starts_anew() -> None:
    model = build({"arch": "torchvision", "name": "resnet18"})
    capture = TapCapture(model, ["layer1.1.relu#1"])
    with capture:
        first = capture.until_last_tap(images())[0]
        second = capture.until_last_tap(images(count=6))[0]
    assert (first.shape[0], second.shape[0]) == (4, 6)
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_a_frozen_teacher_gives_preacts_without_a_graph() -> None:
    model = build({"arch": "wide_resnet", "depth": 10, "width": 1}).eval().requires_grad_(False)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for context in (torch.no_grad(), torch.inference_mode()):
        with TapCapture(model, ["relu"]) as capture, context:
            (preact,) = capture.until_last_tap(images())
        assert not preact.requires_grad
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


class _Functional(nn.Module):
    """A root that calls functions itself, around a child that calls the same ones."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.child = _Child()
        self.act = nn.ReLU(inplace=True)

    def forward(self, batch: Tensor) -> Tensor:
        features = functional.relu(self.conv(batch), True)
        features = self.act(self.child(features))
        return (features - 0.5).relu_().mean((2, 3))


class _Child(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        return functional.relu(input=self.conv(features)) - 0.5


def test_functional_activations_are_captured_where_their_module_calls_them() -> None:
    torch.manual_seed(0)
    model = _Functional()
    names = ["relu()#0", "child.relu()", "act", "relu()#1"]
    assert [tap.name for tap in find_taps(model, IMAGE)] == ["relu()#1"]
    batch = images()
    before = model.conv(batch)
    middle = model.child.conv(before.relu())
    after = middle.relu() - 0.5
    with TapCapture(model, names) as capture:
        logits = model(batch)
        preacts = capture.preacts
        for preact, right in zip(preacts, [before, middle, after, after.relu() - 0.5], strict=True):
            assert torch.equal(preact, right)
        assert torch.equal(logits, model(batch))
        stopped = capture.until_last_tap(batch)
    assert torch.equal(stopped[-1], preacts[-1])
    assert (
        torch._C._len_torch_function_stack() == 0
    )  # nothing watches any more, even after a pass that ended early
    assert torch.equal(model(batch), logits)


def test_a_result_is_safe_from_whoever_reads_it_next() -> None:
    model = build({"arch": "torchvision", "name": "resnet18"}).eval()
    expected: list[Tensor] = []
    plain = not_in_place(model)
    plain.bn1.register_forward_hook(lambda _, __, result: expected.append(result.clone()))
    plain(images())
    with TapCapture(model, ["bn1"]) as capture:
        model(images())
        assert torch.equal(capture.preacts[0], expected[0])


class _Careless(nn.Module):
    """Writes into a pre-activation after its activation has read it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.act = nn.ReLU()

    def forward(self, batch: Tensor) -> Tensor:
        features = self.conv(batch)
        activated = self.act(features)
        features += 1
        logits: Tensor = (activated + features).mean((2, 3))
        return logits


def test_a_pre_activation_that_is_written_into_later_is_not_passed_off_as_one() -> None:
    model = _Careless()
    with TapCapture(model, ["act"]) as capture, torch.no_grad():
        model(images())
        with pytest.raises(RuntimeError, match="wrote into the tensor at tap 'act'"):
            _ = capture.preacts


def test_channels_last_preactivations_come_channels_first() -> None:
    model = build({"arch": "torchvision", "name": "convnext_tiny"}).eval()
    taps = find_taps(model, IMAGE)[:2]
    with TapCapture(model, [tap.name for tap in taps]) as capture, torch.no_grad():
        preacts = capture.until_last_tap(images(2))
    assert [tuple(preact.shape[1:]) for preact in preacts] == [
        (tap.channels, tap.height, tap.width) for tap in taps
    ]


def test_a_tap_that_is_nowhere_negative_is_refused() -> None:
    model = build({"arch": "torchvision", "name": "resnet18"})
    with TapCapture(model, ["layer2"]) as capture, pytest.raises(Refusal) as refused:
        capture.until_last_tap(images())
    assert refused.value.problem.code == "taps.post_activation"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("layer9.relu", "taps.not_found"),
        ("layer2.1.relu", "taps.ambiguous"),
        ("layer2.1.relu#2", "taps.not_reached"),
        ("fc", "taps.not_a_map"),
    ],
)
def test_names_that_do_not_fit_are_refused(name: str, code: str) -> None:
    model = build({"arch": "torchvision", "name": "resnet18"})

    def capture_it() -> None:
        with TapCapture(model, [name]) as capture:
            model(images())
            _ = capture.preacts

    with pytest.raises(Refusal) as refused:
        capture_it()
    assert refused.value.problem.code == code


def test_asking_before_any_pass_is_an_error_of_the_caller() -> None:
    capture = TapCapture(build({"arch": "wide_resnet", "depth": 10, "width": 1}), ["relu"])
    with capture, pytest.raises(RuntimeError, match="no forward pass"):
        _ = capture.preacts
