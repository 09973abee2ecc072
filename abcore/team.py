"""Several processes train one student: each computes its share of every batch, and all take the same step.

The one that was started, rank 0, leads: it alone evaluates, writes checkpoints, tells events and makes the outputs.
It starts the others, which follow. As gradients are added up over all shares before each step, all hold the same
weights at any time. Batch norm measures each share by itself, as torch's `DistributedDataParallel` has it; the
leader's running statistics are the student's.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn

from abcore.specs.refusals import Refusal
from abcore.specs.runs import ExitCode

T = TypeVar("T")

MEETING_POINT = "tmp/team"
"""File in the workspace through which the processes of one attempt find each other."""

_LONGEST_WAIT = timedelta(days=7)
"""Followers wait while the leader evaluates. Who has died is noticed otherwise, and at once."""

_END_SECONDS = 30.0


class Team:
    """The processes of a run. One process alone is a team too, and each of these methods costs it nothing."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size
        self.leads = rank == 0

    def device(self, first: torch.device) -> torch.device:
        """Return this process's device, where `first` is the leader's: the next GPUs in order, or the same CPU.

        Raises:
            Refusal: there are not so many GPUs (`devices.too_few`).
        """
        if first.type != "cuda":
            return first
        index = (first.index or 0) + self.rank
        available = torch.cuda.device_count() - (first.index or 0)
        if available < self.size:
            raise Refusal(
                "devices.too_few",
                f"the job asks for {self.size} devices, and its worker sees {available}",
                where="devices",
                value=self.size,
                allowed=tuple(range(1, available + 1)),
                hint="Ask for fewer, or give the slots of the workers more (ABDISTILL_SLOT_DEVICES).",
            )
        device = torch.device("cuda", index) if self.size > 1 else first
        torch.cuda.set_device(device)
        return device

    def share(self, index_B: Tensor) -> tuple[Tensor, float]:
        """Return this process's part of a batch, and its share of the mean over the batch.

        A batch too small for all to have two images is computed by each of them whole.
        """
        if self.size == 1:
            return index_B, 1.0
        if len(index_B) < 2 * self.size:
            return index_B, 1.0 / self.size
        part_B = index_B.tensor_split(self.size)[self.rank]
        return part_B, len(part_B) / len(index_B)

    def seed_step(self, seed: int, step: int) -> None:
        """Begin this process's random numbers anew, so that a resume needs nobody's state but the leader's."""
        if self.size > 1:
            torch.manual_seed(((seed * 1_000_003 + step) * self.size + self.rank) % 2**63)

    def add_up(self, parameters: Iterable[nn.Parameter], losses: Tensor) -> Tensor:
        """Replace each gradient by its sum over all processes; return the sum of `losses`, (L,) float32.

        One transfer: all gradients and the losses in one flat tensor.
        """
        if self.size == 1:
            return losses
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        sizes = [gradient.numel() for gradient in gradients]
        flat = torch.cat([*(gradient.reshape(-1) for gradient in gradients), losses])
        distributed.all_reduce(flat)
        *sums, losses = torch.split(flat, [*sizes, len(losses)])
        for gradient, total in zip(gradients, sums, strict=True):
            gradient.copy_(total.view_as(gradient))
        return losses.clone()  # a view would keep all of `flat`

    def copy_leaders(self, module: nn.Module) -> None:
        """Give all processes the leader's parameters and buffers."""
        if self.size > 1:
            for tensor in module.state_dict().values():
                distributed.broadcast(tensor, 0)

    def hear(self, leaders: T) -> T:
        """Return what the leader passes, whatever the others do: a small plain value."""
        if self.size == 1:
            return leaders
        values = [leaders]
        distributed.broadcast_object_list(values, 0, device=torch.device("cpu"))
        return values[0]


@contextmanager
def lead(size: int, workspace: Path) -> Iterator[Team]:
    """Start the followers of a run, and train with them. Nothing is left of them afterwards.

    A follower that dies takes this process with it, with its exit code: the work cannot go on, and only a new attempt
    knows where from.
    """
    if size == 1:
        yield Team()
        return
    threads = max(1, torch.get_num_threads() // size)
    torch.set_num_threads(threads)
    (workspace / MEETING_POINT).parent.mkdir(exist_ok=True)
    (workspace / MEETING_POINT).unlink(missing_ok=True)
    followers = [_start(workspace, rank, size, threads) for rank in range(1, size)]
    over = threading.Event()
    watches = [
        threading.Thread(target=_watch, args=(rank, follower, over), daemon=True)
        for rank, follower in enumerate(followers, 1)
    ]
    for watch in watches:
        watch.start()
    try:
        _meet(workspace, 0, size)
        yield Team(0, size)
        over.set()
        for watch in watches:
            watch.join(_END_SECONDS)
    except RuntimeError:
        # That a connection broke may be the first that is heard of a follower's death: its watch knows more.
        for watch in watches:
            watch.join(1.0)
        raise
    finally:
        over.set()
        for follower in followers:
            follower.kill()
            follower.wait()
        if distributed.is_initialized():
            distributed.destroy_process_group()


@contextmanager
def follow(rank: int, size: int, workspace: Path) -> Iterator[Team]:
    """Train with the leader that started this process."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a group is told to stop as one: the leader says when
    _meet(workspace, rank, size)
    try:
        yield Team(rank, size)
    finally:
        distributed.destroy_process_group()


def _start(workspace: Path, rank: int, size: int, threads: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-P", "-m", "abcore.following", str(workspace), str(rank), str(size)]
    surroundings = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    return subprocess.Popen(command, env=surroundings, stdin=subprocess.DEVNULL)  # noqa: S603 - of this program itself


def _watch(rank: int, follower: "subprocess.Popen[bytes]", over: threading.Event) -> None:
    code = follower.wait()
    # One that ends in good order just before the leader does has done what it should.
    if over.wait(_END_SECONDS if code in (ExitCode.DONE, ExitCode.REFUSED) else 0):
        return
    print(f"process {rank} of the run ended with {code}", file=sys.stderr, flush=True)
    os._exit(code if code > 0 else 1)


def _meet(workspace: Path, rank: int, size: int) -> None:
    # All of them are on this machine, and the room that they are in may have no other network.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
        init_method=f"file://{workspace.resolve() / MEETING_POINT}",
        rank=rank,
        world_size=size,
        timeout=_LONGEST_WAIT,
    )
