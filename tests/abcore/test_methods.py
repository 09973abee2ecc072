"""Each method against its formula written out by hand, and each in a run of its own."""

import math
from collections.abc import Callable
from itertools import product
from typing import Any, Literal

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import Tensor

from abcore.losses import cross_entropy
from abcore.methods import build_method
from abcore.methods.attention import attention_loss
from abcore.methods.base import ConnectedMethod
from abcore.methods.fitnets import hint_loss
from abcore.methods.jacobian import jacobian_loss, peak_gradient
from abcore.methods.overhaul import OverhaulMatching, partial_distance
from abcore.methods.response import response_loss
from abcore.methods.solution_flow import fsp_loss, fsp_matrix
from abcore.mixing import mix
from abcore.progress import Stopped
from abcore.specs.architectures import ModelSpec, WideResNet
from abcore.specs.methods import (
    TRANSFER_METHODS,
    ActivationBoundary,
    FlowOfSolution,
    KnowledgeDistillation,
    Overhaul,
)
from abcore.specs.recipes import Finetune, Recipe
from abcore.specs.refusals import Refusal
from abcore.specs.reports import TapPair, TapPoint
from abcore.transfer_head import dtl_loss
from abcore.views import Views

MakeBench = Callable[..., Any]
SHAPE = (2, 3, 4, 5)


@pytest.fixture
def maps() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(SHAPE, dtype=torch.float64), torch.randn(SHAPE, dtype=torch.float64)


def every_neuron() -> Any:
    return product(*(range(size) for size in SHAPE))


def relu(x: float) -> float:
    return max(0.0, x)


@pytest.mark.parametrize("power", [2.0, 1.0, 0.5])
@pytest.mark.parametrize("rectified", [True, False])
def test_response_loss(maps: tuple[Tensor, Tensor], power: float, rectified: bool) -> None:
    x, t = maps
    expected = 0.0
    for at in every_neuron():
        a, b = float(x[at]), float(t[at])
        distance = abs(relu(b) - relu(a)) if rectified else abs(b - a)
        expected += (max(distance, 1e-6) if power < 1 else distance) ** power / 2
    assert float(response_loss(x, t, power=power, rectified=rectified)) == pytest.approx(expected, rel=1e-12)
    assert torch.autograd.gradcheck(
        lambda x: response_loss(x, t, power=power, rectified=rectified), (x.clone().requires_grad_(),)
    )


def test_equal_responses_have_no_slope_at_any_power(maps: tuple[Tensor, Tensor]) -> None:
    x = maps[0].requires_grad_()
    for power in (2.0, 1.0, 0.5):
        (gradient,) = torch.autograd.grad(response_loss(x, x.detach(), power=power, rectified=False), x)
        assert torch.equal(gradient, torch.zeros_like(x))


def test_hint_loss(maps: tuple[Tensor, Tensor]) -> None:
    x, t = maps
    expected = sum((float(t[at]) - float(x[at])) ** 2 for at in every_neuron()) / 2 / 2
    assert float(hint_loss(x, t)) == pytest.approx(expected, rel=1e-12)
    assert torch.autograd.gradcheck(lambda x: hint_loss(x, t), (x.clone().requires_grad_(),))


def test_attention_loss(maps: tuple[Tensor, Tensor]) -> None:
    x, t = maps
    batch, channels, height, width = SHAPE

    def attention(maps: Tensor, image: int) -> list[float]:
        pixels = product(range(height), range(width))
        values = [sum(relu(float(maps[image, c, i, j])) ** 2 for c in range(channels)) for i, j in pixels]
        norm = math.sqrt(sum(value**2 for value in values))
        return [value / norm for value in values]

    expected = sum(
        (a - b) ** 2
        for image in range(batch)
        for a, b in zip(attention(x, image), attention(t, image), strict=True)
    ) / (batch * height * width)
    assert float(attention_loss(x, t)) == pytest.approx(expected, rel=1e-12)
    assert torch.autograd.gradcheck(lambda x: attention_loss(x, t), (x.clone().requires_grad_(),))


def test_attention_is_compared_at_the_smaller_resolution(maps: tuple[Tensor, Tensor]) -> None:
    x, t = maps
    enlarged = torch.relu(t).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    assert torch.allclose(attention_loss(x, enlarged), attention_loss(x, t))
    assert torch.allclose(attention_loss(enlarged, x), attention_loss(t, x))


def test_jacobian_loss() -> None:
    torch.manual_seed(0)
    images = torch.randn(3, 2, 4, 5, dtype=torch.float64)
    weight, teacher_weight = (torch.randn(6, 2, 3, 3, dtype=torch.float64) for _ in range(2))

    def loss(weight: Tensor) -> Tensor:
        of_student, of_teacher = (images.clone().requires_grad_() for _ in range(2))
        gradient = peak_gradient(convolve(of_student, weight), of_student, create_graph=True)
        teacher = peak_gradient(convolve(of_teacher, teacher_weight), of_teacher, create_graph=False)
        return jacobian_loss(gradient, teacher)

    expected = 0.0
    for image in images:
        ours, theirs = (naive_peak_gradient(image, of_network) for of_network in (weight, teacher_weight))
        expected += sum((a - b) ** 2 for a, b in zip(ours, theirs, strict=True)) / len(images)
    assert float(loss(weight).detach()) == pytest.approx(expected, rel=1e-5)
    assert torch.autograd.gradcheck(loss, (weight.clone().requires_grad_(),))


def convolve(images: Tensor, weight: Tensor) -> Tensor:
    return torch.nn.functional.conv2d(images, weight, padding=1).tanh()


def naive_peak_gradient(image: Tensor, weight: Tensor) -> list[float]:
    """By central differences, one pixel after the other."""

    def peak(image: Tensor) -> float:
        maps = convolve(image[None], weight)[0]
        _, height, width = maps.shape
        pixels = product(range(height), range(width))
        return max(sum(relu(float(value)) ** 2 for value in maps[:, i, j]) for i, j in pixels)

    slopes = []
    for at in product(*(range(size) for size in image.shape)):
        step = torch.zeros_like(image)
        step[at] = 1e-6
        slopes.append((peak(image + step) - peak(image - step)) / 2e-6)
    norm = math.sqrt(sum(slope**2 for slope in slopes))
    return [slope / norm for slope in slopes]


def test_fsp_loss(maps: tuple[Tensor, Tensor]) -> None:
    x, t = maps
    batch, channels, height, width = SHAPE
    matrix = fsp_matrix(x, t)
    for image, c, d in product(range(batch), range(channels), range(channels)):
        pixels = product(range(height), range(width))
        expected = sum(relu(float(x[image, c, i, j])) * relu(float(t[image, d, i, j])) for i, j in pixels)
        assert float(matrix[image, c, d]) == pytest.approx(expected / (height * width), rel=1e-12)
    other = fsp_matrix(t, x)
    squares = sum((float(a) - float(b)) ** 2 for a, b in zip(matrix.flatten(), other.flatten(), strict=True))
    assert float(fsp_loss(matrix, other)) == pytest.approx(squares / batch, rel=1e-12)
    assert torch.autograd.gradcheck(
        lambda x: fsp_loss(fsp_matrix(x, t), other), (x.clone().requires_grad_(),)
    )


def test_partial_distance(maps: tuple[Tensor, Tensor]) -> None:
    x, t = maps
    margins = torch.tensor([-0.5, -0.1, 0.0], dtype=torch.float64)
    expected = 0.0
    for at in every_neuron():
        target = max(float(t[at]), float(margins[at[1]]))
        student = float(x[at])
        if not (student <= target <= 0):
            expected += (student - target) ** 2 / 2
    assert float(partial_distance(x, t, margins)) == pytest.approx(expected, rel=1e-12)
    assert torch.autograd.gradcheck(lambda x: partial_distance(x, t, margins), (x.clone().requires_grad_(),))


def test_dtl_loss(maps: tuple[Tensor, Tensor]) -> None:
    x, t = (m.flatten(1) for m in maps)
    expected = 0.0
    for row, target in zip(x.tolist(), t.tolist(), strict=True):
        mean, target_mean = sum(row) / len(row), sum(target) / len(target)
        expected += sum(((a - mean) - (b - target_mean)) ** 2 for a, b in zip(row, target, strict=True))
    assert float(dtl_loss(x, t)) == pytest.approx(expected / x.numel(), rel=1e-12)
    assert torch.autograd.gradcheck(lambda x: dtl_loss(x, t), (x.clone().requires_grad_(),))


def test_label_smoothing() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 4, dtype=torch.float64), torch.tensor([0, 3, 2])
    expected = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        total = sum(map(math.exp, row))
        for k, logit in enumerate(row):
            share = 0.1 / 4 + (0.9 if k == label else 0.0)
            expected -= share * math.log(math.exp(logit) / total) / 3
    assert float(cross_entropy(logits, labels, label_smoothing=0.1)) == pytest.approx(expected, rel=1e-12)


def pair(student_channels: int = 3, teacher_channels: int = 3) -> TapPair:
    student = TapPoint(name="s", channels=student_channels, height=4, width=5)
    teacher = TapPoint(name="t", channels=teacher_channels, height=4, width=5)
    return TapPair(student=student, teacher=teacher, connector_parameters=0)


def test_margins_of_ofd_are_the_means_of_negative_responses() -> None:
    torch.manual_seed(0)
    method = build_method(Overhaul(), [pair()])
    assert isinstance(method, OverhaulMatching)
    batches = [torch.randn(4, 3, 4, 5), torch.randn(2, 3, 4, 5)]
    for batch in batches:
        batch[:, 2] = batch[:, 2].abs()  # a channel that is never negative has no margin
    method.prepare(Views(preacts=[batch]) for batch in batches)
    for channel in range(2):
        values = torch.cat([batch[:, channel].flatten() for batch in batches])
        assert float(method.get_buffer("margin_0")[channel]) == pytest.approx(
            float(values[values < 0].mean())
        )
    assert method.get_buffer("margin_0")[2] == 0


def test_connectors_may_be_left_out_where_channels_agree() -> None:
    spec = ActivationBoundary(connector="where_needed")
    method = build_method(spec, [pair(), pair(teacher_channels=6)])
    assert isinstance(method, ConnectedMethod)
    student = torch.randn(2, 3, 4, 5)
    straight, connected = method.connect([student, student])
    assert torch.equal(straight, student)
    assert connected.shape == (2, 6, 4, 5)
    assert [name.split(".")[1] for name, _ in method.named_parameters()] == ["1"] * 3


@pytest.mark.parametrize(
    ("pairs", "code"), [([pair(), pair(3, 6)], "fsp.channels"), ([pair()], "fsp.one_tap")]
)
def test_fsp_refuses_what_it_cannot_compare(pairs: list[TapPair], code: str) -> None:
    with pytest.raises(Refusal) as refusal:
        build_method(FlowOfSolution(), pairs)
    assert refusal.value.problem.code == code


def test_kd_compares_no_maps() -> None:
    assert build_method(KnowledgeDistillation(), [pair()]) is None
    recipe = Recipe(method=KnowledgeDistillation())
    assert recipe.transfer is None
    assert recipe.needs_teacher
    assert not recipe.compares_taps


@pytest.mark.parametrize("name", ["ab", "response", "kd", "fitnets", "at", "fsp", "jacobian", "ofd"])
def test_a_recipe_knows_its_methods_phase(name: str) -> None:
    recipe = Recipe.model_validate({"method": {"name": name}})
    assert (recipe.transfer is not None) == (name in TRANSFER_METHODS)
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    if name not in TRANSFER_METHODS:
        with pytest.raises(ValidationError, match="set transfer to null"):
            Recipe.model_validate({"method": {"name": name}, "transfer": {}})


def sha256(result: Any) -> str:
    return str(result.files[0].sha256)


@pytest.mark.parametrize("name", ["response", "kd", "fitnets", "at", "fsp", "jacobian", "ofd"])
def test_every_method_trains_and_resumes_exactly(make_bench: MakeBench, recipe: Recipe, name: str) -> None:
    phases = {"transfer", "finetune"} if name in TRANSFER_METHODS else {"finetune"}
    fields = recipe.model_dump(include={"augmentation", *phases})
    changed = Recipe.model_validate({**fields, "method": {"name": name}})
    student = WideResNet(
        arch="wide_resnet", depth=16 if name == "fsp" else 10, width=2 if name == "fsp" else 1
    )
    whole = make_bench("whole", recipe=changed, student=student)
    expected = whole.distill()
    names = {key for record in whole.events("metrics") for key in record.values}
    assert any(key.startswith(f"loss/{name}") for key in names)
    similar = {tap.teacher for tap in expected.report.boundary_similarity}
    assert bool(similar) == (name == "response")
    stopped = make_bench("stopped", recipe=changed, student=student)
    with pytest.raises(Stopped):
        stopped.distill(stop_after=4)
    assert sha256(stopped.distill()) == sha256(expected)


def test_dtl_learns_from_a_teacher_of_other_classes(
    make_bench: MakeBench, recipe: Recipe, inputs: Any
) -> None:
    teacher = ModelSpec.model_validate(
        {
            "architecture": {"arch": "wide_resnet", "depth": 10, "width": 2},
            "image": {"channels": 1, "height": 8, "width": 8},
            "num_classes": 7,
        }
    )
    finetune = {"epochs": 2, "batch_size": 40, "cross_entropy_weight": 1, "kd_weight": 0, "dtl_weight": 10}
    changed = Recipe.model_validate({**recipe.model_dump(), "finetune": finetune})
    bench = make_bench("dtl", recipe=changed, teacher=teacher)
    weights = load_file(inputs / "teacher.safetensors")
    weights |= {"fc.weight": weights["fc.weight"][:7].clone(), "fc.bias": weights["fc.bias"][:7].clone()}
    from safetensors.torch import save_file

    save_file(weights, bench.workspace / "inputs" / "teacher.safetensors")
    report = bench.distill().report
    curve = [r.values["loss/dtl"] for r in bench.events("metrics") if "loss/dtl" in r.values]
    assert curve[-1] < curve[0]
    assert report.agreement == report.teacher_accuracy == {}  # they do not answer the same question
    student = load_file(bench.workspace / "outputs" / "student.safetensors")
    assert student["fc.weight"].shape[0] == 10
    assert not [name for name in student if "head" in name]


@pytest.mark.parametrize(("mixup", "cutmix"), [(1.0, 0.0), (0.0, 1.0), (0.4, 0.7)])
def test_mixed_batches_are_what_their_labels_say(mixup: float, cutmix: float) -> None:
    torch.manual_seed(0)
    labels = torch.arange(8)
    images = labels.double()[:, None, None, None].expand(8, 1, 6, 6)
    logits = torch.randn(8, 8, dtype=torch.float64)
    for _ in range(20):
        mixture = mix(images, mixup=mixup, cutmix=cutmix)
        shown = mixture.images_BCHW.mean(
            dim=(1, 2, 3)
        )  # Σ share × label, because an image's pixels are its label
        one_hot = torch.zeros(8, 8, dtype=torch.float64)
        partner, share = mixture._partner_B, mixture._share
        one_hot[labels, labels] += share
        one_hot[labels, partner] += 1 - share
        assert torch.allclose(shown, one_hot @ labels.double())
        expected = -(one_hot * logits.log_softmax(1)).sum(1).mean()
        assert torch.allclose(mixture.cross_entropy(logits, labels, label_smoothing=0.0), expected)


@pytest.mark.parametrize("keep", ["last", "best"])
def test_a_run_with_mixing_and_smoothing_resumes_exactly(
    make_bench: MakeBench, recipe: Recipe, keep: Literal["last", "best"]
) -> None:
    finetune = Finetune(
        epochs=2,
        batch_size=40,
        cross_entropy_weight=1,
        mixup=0.2,
        cutmix=1.0,
        label_smoothing=0.1,
        keep=keep,
    )
    changed = Recipe.model_validate({**recipe.model_dump(), "transfer": None, "finetune": finetune})
    expected = sha256(make_bench("whole", recipe=changed).distill())
    bench = make_bench("stopped", recipe=changed)
    for stop_after in (2, 3):
        with pytest.raises(Stopped):
            bench.distill(stop_after=stop_after)
    assert sha256(bench.distill()) == expected
