"""Evaluation against counting by hand, and similarity where it is known beforehand."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from abcore.architectures import build_model
from abcore.connectors import Connector
from abcore.data.batches import Batch, View
from abcore.evaluate import agreement, evaluate, evaluating, measure_similarity
from abcore.specs.architectures import ImageShape, ModelSpec, WideResNet
from abcore.specs.refusals import Refusal
from abcore.taps import TapCapture, find_taps
from abcore.teachers import Teacher
from abcore.views import Views

IMAGE = ImageShape(channels=3, height=16, width=16)
HELD_OUT = View("test")


def random_batches(num: int = 3, size: int = 8, num_classes: int = 10) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    return [
        Batch(
            torch.randn(size, 3, 16, 16, generator=generator),
            torch.randint(num_classes, (size,), generator=generator),
            torch.arange(size),
            HELD_OUT,
        )
        for _ in range(num)
    ]


def wide_resnet(width: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    architecture = WideResNet(arch="wide_resnet", depth=10, width=width)
    return build_model(ModelSpec(architecture=architecture, image=IMAGE, num_classes=10))


def seen_by(teacher: Teacher) -> Callable[[Batch], Views]:
    return lambda batch: teacher.preacts(batch.images)


class _Table(nn.Module):
    """Says what it was told, whatever the image."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.rows: Iterator[Tensor] = iter(logits.split(4))

    def forward(self, _: Tensor) -> Tensor:
        return next(self.rows)


@pytest.mark.parametrize("num_classes", [3, 10])
def test_accuracy_counts_every_image_once(num_classes: int) -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(10, num_classes), torch.randint(num_classes, (10,))
    batches = [Batch(torch.zeros(len(part), 1, 1, 1), part, part, HELD_OUT) for part in labels.split(4)]
    result = evaluate(_Table(logits), batches)
    ranked = [sorted(range(num_classes), key=lambda k: -row[k]) for row in logits.tolist()]
    top1 = sum(order[0] == label for order, label in zip(ranked, labels.tolist(), strict=True))
    top5 = sum(label in order[:5] for order, label in zip(ranked, labels.tolist(), strict=True))
    assert result.accuracy.top1 == top1 / 10
    assert result.accuracy.top5 == top5 / 10
    assert result.accuracy.num_images == 10
    assert result.accuracy.loss == pytest.approx(float(nn.functional.cross_entropy(logits, labels)), rel=1e-5)
    assert result.predictions.tolist() == [order[0] for order in ranked]


def test_evaluation_leaves_state_and_modes_alone() -> None:
    model = wide_resnet(1, seed=0).train()
    model.get_submodule("bn1").eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    evaluate(model, random_batches())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert [name for name, module in model.named_modules() if not module.training] == ["bn1"]


def test_modes_come_back_after_an_error() -> None:
    model = wide_resnet(1, seed=0).train()
    with pytest.raises(KeyError), evaluating(model):
        raise KeyError
    assert all(module.training for module in model.modules())


def test_logits_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(Refusal) as refusal:
        evaluate(
            _Table(torch.full((4, 3), torch.nan)),
            [Batch(torch.zeros(4, 1, 1, 1), torch.zeros(4).long(), torch.zeros(4), HELD_OUT)],
        )
    assert refusal.value.problem.code == "evaluation.not_finite"


def test_agreement_counts_equal_predictions() -> None:
    assert agreement(torch.tensor([1, 2, 3, 4]), torch.tensor([1, 2, 0, 4])) == 0.75


def test_a_copy_of_the_teacher_has_similarity_one() -> None:
    model, copy = wide_resnet(2, seed=1), wide_resnet(2, seed=2)
    copy.load_state_dict(model.state_dict())
    names = [tap.name for tap in find_taps(model, IMAGE)]
    with Teacher(model, names, "eval") as teacher, TapCapture(copy, names) as student, evaluating(copy):
        assert measure_similarity(student.until_last_tap, seen_by(teacher), random_batches()) == (
            1.0,
            1.0,
            1.0,
        )


@pytest.mark.parametrize("seed", range(5))
def test_a_random_student_is_right_about_half_the_neurons(seed: int) -> None:
    model, student = wide_resnet(4, seed=1), wide_resnet(1, seed=10 + seed)
    taps, of_student = find_taps(model, IMAGE), find_taps(student, IMAGE)
    connectors = [Connector(s.channels, t.channels) for s, t in zip(of_student, taps, strict=True)]
    with (
        Teacher(model, [tap.name for tap in taps], "eval") as teacher,
        TapCapture(student, [tap.name for tap in of_student]) as capture,
        evaluating(student, *connectors),
    ):

        def student_maps(images: Tensor) -> list[Tensor]:
            preacts = capture.until_last_tap(images)
            return [connect(p, p.shape[2:]) for connect, p in zip(connectors, preacts, strict=True)]

        similarities = measure_similarity(student_maps, seen_by(teacher), random_batches())
    assert similarities == pytest.approx((0.5, 0.5, 0.5), abs=0.05)


def test_similarity_weighs_batches_by_their_images() -> None:
    teacher = Teacher(nn.Sequential(nn.Identity(), nn.ReLU()), ["1"], "eval")
    images = torch.tensor([1.0, 1.0, 1.0, -1.0]).reshape(4, 1, 1, 1).expand(4, 1, 4, 4)
    batches = [
        Batch(part, torch.zeros(len(part)), torch.zeros(len(part)), HELD_OUT)
        for part in (images[1:], images[:1])
    ]
    with teacher:
        ones = measure_similarity(lambda x: [torch.ones_like(x)], seen_by(teacher), batches)
    assert ones == (0.75,)
