"""Choose how a run computes: by the recipe, or by timing the student's own training step in each way it leaves open."""

import time
from collections.abc import Callable
from contextlib import ExitStack

import torch
from torch import Tensor
from torch.nn import functional as F

from abcore.architectures import build_model
from abcore.recording import Recording
from abcore.specs.architectures import ModelSpec
from abcore.specs.computations import Computation, MemoryFormat, Precision
from abcore.specs.recipes import Recipe

ROUNDS = 4
"""How often each way is timed, the first time to warm up. The fastest counts: what else runs here only slows down."""

MOST_IMAGES = 64
LEAST_STEPS = 1000
"""Steps of a run that is worth a probe: it costs as much as some ten of them."""

MARGIN = 0.8
"""Share of the time of the way before it that another must stay below: so a probe decides alike when it is repeated."""

Way = tuple[Precision, MemoryFormat]
_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def choose_computation(
    recipe: Recipe, student: ModelSpec, device: torch.device, *, num_steps: int
) -> Computation:
    """Decide for a run of `num_steps` optimizer steps; draws no random number that anyone else would have drawn."""
    ways = _open_ways(recipe, device)
    if len(ways) == 1:
        return _computation(ways[0], "The recipe leaves nothing else open on this device.")
    if num_steps < LEAST_STEPS:
        return _computation(ways[0], f"Not measured: a run of {num_steps} steps is too short to be worth it.")
    seconds = _probe(ways, student, device, min(MOST_IMAGES, _largest_batch(recipe)))
    chosen = ways[0]
    for way in ways[1:]:
        if seconds[way] < MARGIN * seconds[chosen]:
            chosen = way
    measured = ", ".join(f"{' '.join(way)} {seconds[way] * 1000:.1f} ms" for way in ways)
    return _computation(chosen, f"Measured on training steps of this student: {measured}.")


def torch_format(computation: Computation) -> torch.memory_format:
    """Return torch's name for how maps lie in memory."""
    return _FORMATS[computation.memory_format]


def _open_ways(recipe: Recipe, device: torch.device) -> list[Way]:
    """What the recipe allows, most trusted first.

    Channels last is what convolutions of CPUs and of tensor cores want: on a CPU a step of the student was 12 to 28 %
    faster in float32 (six networks measured). bf16 is taken unasked only by the methods whose students are compared in
    both precisions (`python -m benchmarks.paper precision`).
    """
    on_cpu: list[Way] = [("fp32", "channels_last"), ("fp32", "contiguous"), ("bf16", "channels_last")]
    on_gpu: list[Way] = [("fp32", "contiguous"), ("fp32", "channels_last"), ("bf16", "channels_last")]
    ways = on_cpu if device.type == "cpu" else on_gpu
    if recipe.precision == "auto" and recipe.method.name not in ("ab", "kd"):
        ways = [way for way in ways if way[0] == "fp32"]
    if recipe.precision != "auto":
        ways = [way for way in ways if way[0] == recipe.precision]
    if recipe.memory_format != "auto":
        own = recipe.memory_format
        ways = [way for way in ways if way[1] == own] or [(ways[0][0], own)]
    return ways


def _largest_batch(recipe: Recipe) -> int:
    return max(phase.batch_size for phase in (recipe.transfer, recipe.finetune) if phase is not None)


def _computation(way: Way, why: str) -> Computation:
    return Computation(precision=way[0], memory_format=way[1], why=why)


def _probe(ways: list[Way], student: ModelSpec, device: torch.device, num_images: int) -> dict[Way, float]:
    """Time a training step in each way, in turn; return the seconds of the fastest."""
    with ExitStack() as stack:
        devices = [device] if device.type == "cuda" else []
        stack.enter_context(torch.random.fork_rng(devices=devices))
        steps = {way: _as_trained(_training_step(way, student, device, num_images), device) for way in ways}
        seconds: dict[Way, list[float]] = {way: [] for way in ways}
        for _ in range(ROUNDS):
            for way, step in steps.items():
                started = time.perf_counter()
                step()
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                seconds[way].append(time.perf_counter() - started)
    return {way: min(times[1:]) for way, times in seconds.items()}


def _as_trained(step: Callable[[], Tensor], device: torch.device) -> Callable[[], Tensor]:
    """On a GPU passes are replayed where they can be (`abcore.replaying`), and what counts is how long that takes."""
    if device.type != "cuda":
        return step
    try:
        return Recording(step).replay
    except RuntimeError:
        return step


def _training_step(
    way: Way, student: ModelSpec, device: torch.device, num_images: int
) -> Callable[[], Tensor]:
    precision, layout = way
    memory_format = _FORMATS[layout]
    model = build_model(student).to(device)
    model.to(memory_format=memory_format)  # type: ignore[call-overload]  # torch's stubs lack it
    image = student.image
    images_BCHW = torch.rand(num_images, image.channels, image.height, image.width, device=device)
    images_BCHW = images_BCHW.contiguous(memory_format=memory_format)
    labels_B = torch.zeros(num_images, dtype=torch.int64, device=device)

    def step() -> Tensor:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            loss = F.cross_entropy(model(images_BCHW), labels_B)
        model.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        return loss.detach()

    return step
