"""How long networks take for a batch: the median of some runs after one to warm up."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from abcore.specs.reports import Latency

MOST_RUNS = 15
FEWEST_RUNS = 3
SECONDS = 0.05
"""Runs end after this time, or after `FEWEST_RUNS` if that takes longer: a job must not wait for them."""
BATCH_SIZES = (1, 32)


@dataclass(frozen=True)
class Contender:
    """Something whose time is taken: images_BCHW -> logits_BK, on a device."""

    network: Literal["student", "teacher"]
    runtime: str
    device: torch.device
    run: Callable[[Tensor], Tensor]


def measure_latency(contender: Contender, images_BCHW: Tensor) -> Latency:
    """Take a contender's time for one batch, which lies on its device. Gradients must be off."""
    contender.run(images_BCHW)
    seconds: list[float] = []
    deadline = time.perf_counter() + SECONDS
    while len(seconds) < FEWEST_RUNS or (len(seconds) < MOST_RUNS and time.perf_counter() < deadline):
        _synchronise(contender.device)
        started = time.perf_counter()
        contender.run(images_BCHW)
        _synchronise(contender.device)
        seconds.append(time.perf_counter() - started)
    return Latency(
        network=contender.network,
        runtime=contender.runtime,
        device=str(contender.device),
        threads=torch.get_num_threads(),
        batch_size=len(images_BCHW),
        runs=len(seconds),
        median_seconds=statistics.median(seconds),
    )


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
