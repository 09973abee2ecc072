"""One transfer step: ours, a plain transcription of the method, and the student's own cross-entropy step.

Same networks, same batch, float32, the teacher asked anew at each step; the three run in turn, round by round, so that
a machine whose speed drifts slows all of them alike. Figures are medians of ratios within a round.
"""

import math
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from abcore.architectures import build_model
from abcore.describe import plan_distillation
from abcore.methods.activation_boundary import BoundaryTransfer
from abcore.specs.architectures import ImageShape, ModelSpec, WideResNet
from abcore.specs.methods import ActivationBoundary
from abcore.specs.recipes import Recipe
from abcore.taps import TapCapture
from abcore.teachers import Teacher
from abcore.views import Views

BATCH_SIZE = 64
NUM_CLASSES = 10
IMAGE = ImageShape(channels=3, height=32, width=32)
MARGIN = 1.0
LEARNING_RATE = 0.01

Step = Callable[[], None]


def measure(rounds: int) -> dict[str, Any]:
    """Time the three steps; WRN-22-4 teacher, WRN-16-2 student, as in the paper's CIFAR setting."""
    torch.manual_seed(0)
    images_BCHW = torch.randn(BATCH_SIZE, IMAGE.channels, IMAGE.height, IMAGE.width)
    labels_B = torch.randint(NUM_CLASSES, (BATCH_SIZE,))
    teacher, student = _spec(22, 4), _spec(16, 2)
    with ExitStack() as open_until_done:
        steps = {
            "cross_entropy": _cross_entropy_step(build_model(student), images_BCHW, labels_B),
            "ours": _our_step(student, teacher, images_BCHW, open_until_done),
            "plain": _plain_step(build_model(student), build_model(teacher), images_BCHW),
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
        "ours over cross-entropy": _ratio(seconds["ours"], seconds["cross_entropy"]),
        "plain over cross-entropy": _ratio(seconds["plain"], seconds["cross_entropy"]),
        "plain over ours": _ratio(seconds["plain"], seconds["ours"]),
    }


def _ratio(upper: list[float], lower: list[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(upper, lower, strict=True)), 3)


def _spec(depth: int, width: int) -> ModelSpec:
    architecture = WideResNet(arch="wide_resnet", depth=depth, width=width)
    return ModelSpec(architecture=architecture, image=IMAGE, num_classes=NUM_CLASSES)


def _sgd(*modules: nn.Module) -> torch.optim.Optimizer:
    parameters = [parameter for module in modules for parameter in module.parameters()]
    return torch.optim.SGD(parameters, LEARNING_RATE, momentum=0.9, nesterov=True, weight_decay=5e-4)


def _cross_entropy_step(student: nn.Module, images_BCHW: Tensor, labels_B: Tensor) -> Step:
    optimizer = _sgd(student.train())

    def step() -> None:
        optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(student(images_BCHW), labels_B))
        optimizer.step()

    return step


def _our_step(student: ModelSpec, teacher: ModelSpec, images_BCHW: Tensor, stack: ExitStack) -> Step:
    """What the transfer phase does with a batch."""
    pairs = plan_distillation(student, teacher, Recipe()).pairs
    model = build_model(student).train()
    method = BoundaryTransfer(ActivationBoundary(margin=MARGIN), pairs).train()
    taps = stack.enter_context(TapCapture(model, [pair.student.name for pair in pairs]))
    asked = stack.enter_context(Teacher(build_model(teacher), [pair.teacher.name for pair in pairs], "eval"))
    optimizer = _sgd(model, method)

    def step() -> None:
        losses = method(Views(preacts=taps.until_last_tap(images_BCHW)), asked.preacts(images_BCHW))
        optimizer.zero_grad()
        torch.autograd.backward(torch.stack(list(losses.values())).sum())
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
