"""One training step: ours with the teacher's answers cached and online, a plain transcription, and cross-entropy.

Same networks, same batch, float32; all run in turn, round by round, so that a machine whose speed drifts slows them
alike. Figures are medians of ratios within a round.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from abcore.answers import Answers, Cached, Online
from abcore.architectures import build_model
from abcore.data.batches import Batch, Feed, View
from abcore.data.dataset import Split
from abcore.describe import plan_distillation
from abcore.losses import distillation_loss
from abcore.methods.activation_boundary import BoundaryTransfer
from abcore.sign_layout import SignLayout
from abcore.specs.architectures import ImageShape, ModelSpec, Normalization, WideResNet
from abcore.specs.methods import ActivationBoundary
from abcore.specs.recipes import Augmentation, Recipe
from abcore.specs.reports import TapPair
from abcore.taps import TapCapture
from abcore.teachers import Teacher
from abcore.views import Views

BATCH_SIZE = 64
NUM_IMAGES = 256
NUM_CLASSES = 10
IMAGE = ImageShape(channels=3, height=32, width=32)
MARGIN = 1.0
LEARNING_RATE = 0.01

Step = Callable[[], None]


def measure(rounds: int) -> dict[str, Any]:
    """Time the steps; WRN-22-4 teacher, WRN-16-2 student, as in the paper's CIFAR setting."""
    torch.manual_seed(0)
    feed = _feed()
    batch = next(feed.shuffled(View("train", 0), batch_size=BATCH_SIZE, order_seed=0))
    teacher, student = _spec(22, 4), _spec(16, 2)
    pairs = plan_distillation(student, teacher, Recipe()).pairs
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        asked = Teacher(build_model(teacher), [pair.teacher.name for pair in pairs], "eval")
        stack.enter_context(asked)
        online, cached = Online(asked), _cached(asked, pairs, feed, folder)
        steps = {
            "cross_entropy": _cross_entropy_step(build_model(student), batch),
            "cached": _our_step(student, pairs, cached, batch, stack),
            "online": _our_step(student, pairs, online, batch, stack),
            "plain": _plain_step(build_model(student), build_model(teacher), batch.images),
            "finetune": _finetune_step(build_model(student), cached, batch),
        }
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        for step in steps.values():
            step()
        for _ in range(rounds):
            for name, step in steps.items():
                started = time.perf_counter()
                step()
                seconds[name].append(time.perf_counter() - started)
    return {
        "setting": f"WRN-22-4 to WRN-16-2, batch {BATCH_SIZE}, float32, {torch.get_num_threads()} threads, cpu",
        "rounds": rounds,
        "milliseconds": {name: round(statistics.median(times) * 1000, 1) for name, times in seconds.items()},
        "transfer, cached, over cross-entropy": _ratio(seconds["cached"], seconds["cross_entropy"]),
        "transfer, online, over cross-entropy": _ratio(seconds["online"], seconds["cross_entropy"]),
        "plain over cross-entropy": _ratio(seconds["plain"], seconds["cross_entropy"]),
        "plain over transfer, cached": _ratio(seconds["plain"], seconds["cached"]),
        "plain over transfer, online": _ratio(seconds["plain"], seconds["online"]),
        "finetune, cached logits, over cross-entropy": _ratio(seconds["finetune"], seconds["cross_entropy"]),
    }


def _ratio(upper: list[float], lower: list[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(upper, lower, strict=True)), 3)


def _spec(depth: int, width: int) -> ModelSpec:
    architecture = WideResNet(arch="wide_resnet", depth=depth, width=width)
    return ModelSpec(architecture=architecture, image=IMAGE, num_classes=NUM_CLASSES)


def _sgd(*modules: nn.Module) -> torch.optim.Optimizer:
    parameters = [parameter for module in modules for parameter in module.parameters()]
    return torch.optim.SGD(parameters, LEARNING_RATE, momentum=0.9, nesterov=True, weight_decay=5e-4)


def _feed() -> Feed:
    """Random pixels: what they show is not what takes time."""
    shape = (NUM_IMAGES, IMAGE.channels, IMAGE.height, IMAGE.width)
    images_NCHW = torch.randint(0, 256, shape, dtype=torch.uint8)
    return Feed(
        {"train": Split(images_NCHW, torch.randint(NUM_CLASSES, (NUM_IMAGES,)))},
        device=torch.device("cpu"),
        normalization=Normalization(mean=(0.5,) * IMAGE.channels, std=(0.25,) * IMAGE.channels),
        augmentation=Augmentation(),
        view_seed=0,
    )


def _cached(teacher: Teacher, pairs: Sequence[TapPair], feed: Feed, folder: Path) -> Cached:
    return Cached(
        teacher,
        folder,
        {},
        taps=SignLayout.of(pairs),
        tap_names=[pair.teacher.name for pair in pairs],
        num_classes=NUM_CLASSES,
        keep_logits=True,
        whole_view=feed.in_order,
        num_images=lambda _: NUM_IMAGES,
        autocast=nullcontext,
    )


def _cross_entropy_step(student: nn.Module, batch: Batch) -> Step:
    images_BCHW, labels_B = batch.images, batch.labels
    optimizer = _sgd(student.train())

    def step() -> None:
        optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(student(images_BCHW), labels_B))
        optimizer.step()

    return step


def _our_step(
    student: ModelSpec, pairs: Sequence[TapPair], answers: Answers, batch: Batch, stack: ExitStack
) -> Step:
    """What the transfer phase does with a batch."""
    model = build_model(student).train()
    method = BoundaryTransfer(ActivationBoundary(margin=MARGIN), pairs).train()
    taps = stack.enter_context(TapCapture(model, [pair.student.name for pair in pairs]))
    optimizer = _sgd(model, method)

    def step() -> None:
        teacher = answers.boundaries(batch)
        losses = method(Views(preacts=taps.until_last_tap(batch.images)), teacher)
        optimizer.zero_grad()
        torch.autograd.backward(torch.stack(list(losses.values())).sum())
        optimizer.step()

    return step


def _finetune_step(student: nn.Module, answers: Answers, batch: Batch) -> Step:
    """What the finetune phase does with a batch under KD."""
    optimizer = _sgd(student.train())

    def step() -> None:
        logits_BK = student(batch.images)
        teacher_logits_BK = answers.logits(batch).logits
        assert teacher_logits_BK is not None
        loss = distillation_loss(logits_BK, teacher_logits_BK, temperature=3, temperature_squared=True)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()

    return step


def _plain_step(student: nn.Module, teacher: nn.Module, images_BCHW: Tensor) -> Step:
    """The method written out from its formulas: whole forward passes, hooks, the loss as two masked squares (eq. 7)."""
    taps = ("block2.layer.0.bn1", "block3.layer.0.bn1", "bn1")
    seen: dict[str, dict[str, Tensor]] = {"student": {}, "teacher": {}}
    for owner, model in (("student", student.train()), ("teacher", teacher.eval())):
        for name in taps:
            keep = seen[owner]
            model.get_submodule(name).register_forward_hook(
                lambda _module, _inputs, output, keep=keep, name=name: keep.__setitem__(name, output)
            )
    connectors = nn.ModuleList(_plain_connector(student, teacher, name) for name in taps)
    optimizer = _sgd(student, connectors)

    def step() -> None:
        with torch.no_grad():
            teacher(images_BCHW)
        student(images_BCHW)
        total = torch.zeros(())
        for index, (name, connector) in enumerate(zip(taps, connectors, strict=True)):
            x, t = connector(seen["student"][name]), seen["teacher"][name]
            off = (x + MARGIN).square() * ((x > -MARGIN) & (t <= 0)).float()
            on = (x - MARGIN).square() * ((x <= MARGIN) & (t > 0)).float()
            total = total + (off + on).sum() / len(x) / 1000 * 3 * 2.0 ** (index - len(taps) + 1)
        optimizer.zero_grad()
        torch.autograd.backward(total)
        optimizer.step()

    return step


def _plain_connector(student: nn.Module, teacher: nn.Module, tap: str) -> nn.Module:
    ours, theirs = (model.get_submodule(tap) for model in (student, teacher))
    assert isinstance(ours, nn.BatchNorm2d)
    assert isinstance(theirs, nn.BatchNorm2d)
    convolution = nn.Conv2d(ours.num_features, theirs.num_features, 1, bias=False)
    nn.init.normal_(convolution.weight, std=math.sqrt(2 / theirs.num_features))
    return nn.Sequential(convolution, nn.BatchNorm2d(theirs.num_features))
