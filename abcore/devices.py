"""Where a run computes, and with which versions."""

import os
import platform
import warnings
from contextlib import suppress
from pathlib import Path

import torch

from abcore.specs.refusals import Refusal

_CPU_INFO = Path("/proc/cpuinfo")

STEPS_WORTH_A_SEARCH = 50_000
"""Steps of a run that is worth a search for kernels."""


def choose_device() -> torch.device:
    """Return the device that `ABDISTILL_DEVICE` names (`auto`, `cpu`, `cuda`, `cuda:1`); `auto`: a GPU if there is one.

    Raises:
        Refusal: the name is no device, or one that this machine does not have (`device.unavailable`).
    """
    name = os.environ.get("ABDISTILL_DEVICE", "auto")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    available = ("auto", "cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count())))
    if name not in available and not (name == "cuda" and torch.cuda.is_available()):
        raise Refusal(
            "device.unavailable",
            f"ABDISTILL_DEVICE is {name!r}, and this machine has no such device",
            where="ABDISTILL_DEVICE",
            value=name,
            allowed=available,
            hint="Set the worker's `device` to `auto`, or run it where the device is.",
        )
    return torch.device("cuda:0" if name == "cuda" else name)


def search_for_kernels(num_steps: int) -> None:
    """On a GPU, have a run of so many steps try out the ways to compute each of its convolutions, if it is long.

    A tenth of a second for each layer, direction and batch size adds up to a quarter of a minute before the first
    epoch ends. What is found is faster by a small share of a step.
    """
    torch.backends.cudnn.benchmark = num_steps >= STEPS_WORTH_A_SEARCH


def describe_device(device: torch.device, count: int = 1) -> str:
    """Name a device for people: `cuda:0 (NVIDIA H100 80GB HBM3)`, `2 x cpu (1 threads)`."""
    times = f"{count} x " if count > 1 else ""
    if device.type == "cuda":
        return f"{times}{device} ({torch.cuda.get_device_name(device)})"
    return f"{times}{device} ({torch.get_num_threads()} threads)"


def processor(device: torch.device) -> str:
    """Name what computes there. Another kind of processor may add up in another order, and so give other last bits."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = ""
    with suppress(OSError), _CPU_INFO.open() as lines:
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()} {model}".strip()


def gpu_is_passed_over(device: torch.device) -> bool:
    """Whether `auto` came to the CPU, `device`, where a GPU was meant for this process."""
    asked = os.environ.get("ABDISTILL_DEVICE", "auto")
    return device.type == "cpu" and asked == "auto" and bool(os.environ.get("CUDA_VISIBLE_DEVICES"))


def why_no_gpu() -> str | None:
    """Return why torch cannot use the GPUs that this process was left, in a line of the driver's or torch's own words.

    None where it can.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.zeros(1, device="cuda")
    except (RuntimeError, AssertionError) as error:
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return None


def versions() -> dict[str, str]:
    """Return the versions that decide which bits come out of a run."""
    return {"python": platform.python_version(), "torch": str(torch.__version__)}
