"""One training step: ours with the teacher's answers cached and online, a plain transcription, and cross-entropy.

Same networks, same images; all run in turn, round by round, so that a machine whose speed drifts slows them alike.
Figures are medians of ratios within a round; on a GPU a round takes ten of each step, as training does. "Defaults" is
how a run of the service would compute here: what `abcore.computation` chooses, by its own probe. Our steps are taken
as the training loop takes them, on a GPU replayed; the plain ones (the transcription, and cross-entropy where it says
so) as one would write them.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from abcore.answers import Answers, Cached, Online
from abcore.architectures import build_model
from abcore.computation import LEAST_STEPS, choose_computation, torch_format
from abcore.data.batches import Batch, Feed, View
from abcore.data.dataset import Split
from abcore.describe import plan_distillation
from abcore.devices import (
    STEPS_WORTH_A_SEARCH,
    choose_device,
    describe_device,
    search_for_kernels,
)
from abcore.losses import distillation_loss
from abcore.methods.activation_boundary import BoundaryTransfer
from abcore.micro_batches import MicroBatches
from abcore.phases import Look, Phase
from abcore.replaying import FIRST_STEPS
from abcore.sign_layout import SignLayout
from abcore.specs.architectures import ImageShape, ModelSpec, Normalization, WideResNet
from abcore.specs.computations import Computation
from abcore.specs.methods import ActivationBoundary
from abcore.specs.recipes import Augmentation, Finetune, Recipe, Transfer
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
STEPS_AT_ONCE = 10


def _spec(depth: int, width: int) -> ModelSpec:
    architecture = WideResNet(arch="wide_resnet", depth=depth, width=width)
    return ModelSpec(architecture=architecture, image=IMAGE, num_classes=NUM_CLASSES)


TEACHER, STUDENT = _spec(22, 4), _spec(16, 2)

Step = Callable[[], None]


@dataclass(frozen=True)
class Bench:
    """What the steps of one way to compute have in common."""

    computation: Computation
    batch: Batch
    pairs: Sequence[TapPair]
    cached: Cached
    online: Online

    def autocast(self) -> AbstractContextManager[None]:
        """The precision of forward passes."""
        return torch.autocast(
            self.batch.images.device.type, dtype=torch.bfloat16, enabled=self.computation.precision == "bf16"
        )

    def build(self, spec: ModelSpec) -> nn.Module:
        """A network that lies as maps do."""
        return _placed(build_model(spec).to(self.batch.images.device), self.computation)


def measure(rounds: int) -> dict[str, Any]:
    """Time the steps; WRN-22-4 teacher, WRN-16-2 student, as in the paper's CIFAR setting."""
    device = choose_device()
    torch.manual_seed(0)
    search_for_kernels(STEPS_WORTH_A_SEARCH)
    chosen = choose_computation(Recipe(), STUDENT, device, num_steps=LEAST_STEPS)
    plain = Computation(precision="fp32", memory_format="contiguous", why="")
    single = Computation(precision="fp32", memory_format="channels_last", why="")
    with ExitStack() as stack:
        ours, in_single, by_hand = (_bench(each, device, stack) for each in (chosen, single, plain))
        steps = {
            "cross_entropy, plain": _cross_entropy_step(by_hand),
            "cross_entropy, fp32": _our_step(in_single, _Logits(in_single, None)),
            "cross_entropy": _our_step(ours, _Logits(ours, None)),
            "cached, fp32": _our_step(in_single, _Boundaries(in_single, in_single.cached, stack)),
            "cached": _our_step(ours, _Boundaries(ours, ours.cached, stack)),
            "online": _our_step(ours, _Boundaries(ours, ours.online, stack)),
            "finetune": _our_step(ours, _Logits(ours, ours.cached)),
            "transcription": _plain_step(by_hand),
        }
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        for step in steps.values():
            for _ in range(FIRST_STEPS if device.type == "cuda" else 1):
                step()
        for _ in range(rounds):
            for name, step in steps.items():
                seconds[name].append(_seconds(step, device))
    return {
        "setting": f"WRN-22-4 to WRN-16-2, batch {BATCH_SIZE}, {describe_device(device)}",
        "defaults": f"{chosen.precision}, {chosen.memory_format}",
        "rounds": rounds,
        "milliseconds": {name: round(statistics.median(times) * 1000, 2) for name, times in seconds.items()},
        "figures": _figures(seconds),
    }


def _seconds(step: Step, device: torch.device) -> float:
    started = time.perf_counter()
    step()
    if device.type == "cuda":
        # The steps of a training follow each other without a wait; the first after another's is no example of them.
        torch.cuda.synchronize(device)
        started = time.perf_counter()
        for _ in range(STEPS_AT_ONCE):
            step()
        torch.cuda.synchronize(device)
        return (time.perf_counter() - started) / STEPS_AT_ONCE
    return time.perf_counter() - started


def _figures(seconds: dict[str, list[float]]) -> dict[str, float]:
    def ratio(upper: str, lower: str) -> float:
        return round(statistics.median(a / b for a, b in zip(seconds[upper], seconds[lower], strict=True)), 3)

    return {
        "cached_fp32": ratio("cached, fp32", "cross_entropy, fp32"),
        "cached_defaults": ratio("cached", "cross_entropy"),
        "defaults_over_plain": ratio("cached", "cross_entropy, plain"),
        "transcription_over_cached": ratio("transcription", "cached"),
        "transcription_over_online": ratio("transcription", "online"),
        "finetune": ratio("finetune", "cross_entropy"),
        "transcription_over_plain": ratio("transcription", "cross_entropy, plain"),
    }


def _bench(computation: Computation, device: torch.device, stack: ExitStack) -> Bench:
    torch.manual_seed(0)
    feed = _feed(torch_format(computation), device)
    folder = Path(stack.enter_context(TemporaryDirectory()))
    pairs = plan_distillation(STUDENT, TEACHER, Recipe()).pairs
    teacher = Teacher(
        _placed(build_model(TEACHER).to(device), computation), [pair.teacher.name for pair in pairs], "eval"
    )
    stack.enter_context(teacher)
    batch = next(feed.shuffled(View("train", 0), batch_size=BATCH_SIZE, order_seed=0))
    cached = _cached(teacher, pairs, feed, folder, computation)
    return Bench(computation, batch, pairs, cached, Online(teacher))


def _placed(model: nn.Module, computation: Computation) -> nn.Module:
    layout = torch_format(computation)
    return model.to(memory_format=layout)  # type: ignore[call-overload, no-any-return]  # torch's stubs lack it


def _sgd(*modules: nn.Module) -> torch.optim.Optimizer:
    parameters = [parameter for module in modules for parameter in module.parameters()]
    return torch.optim.SGD(
        parameters, LEARNING_RATE, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True
    )


def _feed(memory_format: torch.memory_format, device: torch.device) -> Feed:
    """Random pixels: what they show is not what takes time."""
    shape = (NUM_IMAGES, IMAGE.channels, IMAGE.height, IMAGE.width)
    images_NCHW = torch.randint(0, 256, shape, dtype=torch.uint8)
    return Feed(
        {"train": Split(images_NCHW, torch.randint(NUM_CLASSES, (NUM_IMAGES,)))},
        device=device,
        normalization=Normalization(mean=(0.5,) * IMAGE.channels, std=(0.25,) * IMAGE.channels),
        augmentation=Augmentation(),
        view_seed=0,
        memory_format=memory_format,
    )


def _cached(
    teacher: Teacher, pairs: Sequence[TapPair], feed: Feed, folder: Path, computation: Computation
) -> Cached:
    return Cached(
        teacher,
        folder,
        {},
        taps=SignLayout.of(pairs, channels_last=computation.memory_format == "channels_last"),
        tap_names=[pair.teacher.name for pair in pairs],
        num_classes=NUM_CLASSES,
        keep_logits=True,
        whole_view=feed.in_order,
        num_images=lambda _: NUM_IMAGES,
        autocast=nullcontext,
    )


def _cross_entropy_step(bench: Bench) -> Step:
    student, batch = bench.build(STUDENT).train(), bench.batch
    optimizer = _sgd(student)

    def step() -> None:
        with bench.autocast():
            loss = F.cross_entropy(student(batch.images), batch.labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()

    return step


class _Part(Phase):
    """A phase of which only steps are taken."""

    def evaluate(self) -> dict[str, float]:
        return {}


class _Boundaries(_Part):
    """The transfer phase's losses."""

    name = "transfer"

    def __init__(self, bench: Bench, answers: Answers, stack: ExitStack) -> None:
        student = bench.build(STUDENT)
        method = BoundaryTransfer(ActivationBoundary(margin=MARGIN), bench.pairs).to(
            bench.batch.images.device
        )
        _placed(method, bench.computation)
        super().__init__(Transfer(), nn.ModuleDict({"student": student, "method": method}).train())
        self._answers, self._method = answers, method
        self._taps = stack.enter_context(TapCapture(student, [pair.student.name for pair in bench.pairs]))

    def look(self, batch: Batch) -> Look:
        return Look(batch, self._answers.boundaries(batch))

    def losses(self, look: Look) -> dict[str, Tensor]:
        student = Views(preacts=self._taps.until_last_tap(look.batch.images))
        losses: dict[str, Tensor] = self._method(student, look.teacher)
        return losses


class _Logits(_Part):
    """The finetune phase's losses under KD, from kept logits; without them cross-entropy."""

    name = "finetune"

    def __init__(self, bench: Bench, answers: Answers | None) -> None:
        super().__init__(Finetune(), nn.ModuleDict({"student": bench.build(STUDENT)}).train())
        self._answers = answers

    def look(self, batch: Batch) -> Look:
        return Look(batch, Views() if self._answers is None else self._answers.logits(batch))

    def losses(self, look: Look) -> dict[str, Tensor]:
        logits_BK = self.trained["student"](look.batch.images)
        if look.teacher.logits is None:
            return {"cross_entropy": F.cross_entropy(logits_BK, look.batch.labels)}
        loss = distillation_loss(logits_BK, look.teacher.logits, temperature=3, temperature_squared=True)
        return {"kd": loss}


def _our_step(bench: Bench, phase: _Part) -> Step:
    """What the training loop does with a batch."""
    passes = MicroBatches(bench.batch.images.device, tell=lambda note: print(note.model_dump_json()))
    optimizer = _sgd(phase.trained)

    def step() -> None:
        optimizer.zero_grad()
        passes.backward(phase, bench.batch, 0, bench.autocast)
        optimizer.step()

    return step


def _plain_step(bench: Bench) -> Step:
    """The method written out from its formulas: whole forward passes, hooks, the loss as two masked squares (eq. 7)."""
    student, teacher, images_BCHW = bench.build(STUDENT), bench.build(TEACHER), bench.batch.images
    taps = ("block2.layer.0.bn1", "block3.layer.0.bn1", "bn1")
    seen: dict[str, dict[str, Tensor]] = {"student": {}, "teacher": {}}
    for owner, model in (("student", student.train()), ("teacher", teacher.eval())):
        for name in taps:
            keep = seen[owner]
            model.get_submodule(name).register_forward_hook(
                lambda _module, _inputs, output, keep=keep, name=name: keep.__setitem__(name, output)
            )
    connectors = nn.ModuleList(_plain_connector(student, teacher, name) for name in taps).to(
        images_BCHW.device
    )
    optimizer = _sgd(student, connectors)

    def step() -> None:
        with torch.no_grad():
            teacher(images_BCHW)
        student(images_BCHW)
        total = torch.zeros((), device=images_BCHW.device)
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
