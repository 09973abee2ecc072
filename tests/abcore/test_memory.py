"""Memory runs out: the batch is computed in parts, nothing else changes, and a resumed run goes on with them."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from abcore.data.batches import Batch, View
from abcore.data.dataset import ImageDataset, Split, save_dataset
from abcore.events import MicroBatch
from abcore.memory import HALVINGS_VARIABLE, is_out_of_memory
from abcore.micro_batches import MicroBatches
from abcore.phases import FinetunePhase, Look, Phase, TransferPhase
from abcore.progress import Stopped
from abcore.specs.architectures import ImageShape, Normalization, WideResNet
from abcore.specs.recipes import Finetune, Recipe
from abcore.specs.reports import DatasetReport, SplitReport
from abcore.specs.runs import ExitCode
from abcore.views import Views

MakeBench = Callable[..., Any]
ANSWERED_BY_HALVES = (ExitCode.OUT_OF_MEMORY, -signal.SIGSEGV)
"""What an attempt could not answer itself, because of how its memory lies: a worker begins the next with halves."""
STUDENT = WideResNet(arch="wide_resnet", depth=10, width=2)
CPU = torch.device("cpu")


class Squares(Phase):
    """A mean over images without batch norm: parts must add up to the whole."""

    name = "finetune"

    def __init__(self, fails: int = 0) -> None:
        torch.manual_seed(0)
        super().__init__(Finetune(), nn.ModuleDict({"model": nn.Linear(4, 3)}))
        self.fails = fails
        self.sizes: list[int] = []

    def look(self, batch: Batch) -> Look:
        return Look(batch, Views())

    def losses(self, look: Look) -> dict[str, Tensor]:
        self.sizes.append(len(look.batch.labels))
        values = self.trained["model"](look.batch.images)
        if self.fails:
            self.fails -= 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore about it.")
        return {"square": values.square().mean(), "absolute": values.abs().mean()}

    def evaluate(self) -> dict[str, float]:
        return {}


def a_batch(num_images: int) -> Batch:
    torch.manual_seed(1)
    return Batch(
        torch.randn(num_images, 4),
        torch.zeros(num_images, dtype=torch.int64),
        torch.arange(num_images),
        View("train"),
    )


def gradient(fails: int, num_images: int) -> tuple[Tensor, Tensor, list[int], list[MicroBatch]]:
    told: list[MicroBatch] = []
    phase = Squares(fails)
    names, losses = MicroBatches(CPU, told.append).backward(
        phase, a_batch(num_images), 5, lambda: torch.autocast("cpu", enabled=False)
    )
    assert names == ("square", "absolute")
    return phase.trained["model"].weight.grad, losses, phase.sizes, told


@pytest.mark.parametrize("num_images", [40, 41, 43])
def test_the_gradients_of_parts_add_up_to_that_of_the_batch(num_images: int) -> None:
    whole, loss, _, told = gradient(0, num_images)
    assert told == []
    for fails, parts in ((1, 2), (2, 4), (3, 8)):
        in_parts, loss_in_parts, sizes, told = gradient(fails, num_images)
        assert len(sizes) == fails + parts
        assert sum(sizes[fails:]) == num_images
        assert torch.allclose(in_parts, whole, rtol=1e-5, atol=1e-7)
        assert torch.allclose(loss_in_parts, loss)
        assert [record.images for record in told] == [-(-num_images // 2**n) for n in range(1, fails + 1)]
        assert told[-1].batch == num_images
        assert told[-1].reason == "CUDA out of memory. Tried to allocate 2.00 GiB."


def test_a_part_of_two_images_is_the_smallest() -> None:
    assert [record.images for record in gradient(2, 8)[3]] == [4, 2]
    with pytest.raises(torch.OutOfMemoryError):
        gradient(3, 8)


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (ValueError("can't allocate memory"), False),
    ],
)  # fmt: skip
def test_only_an_allocator_speaks_of_memory(error: Exception, is_memory: bool) -> None:
    assert is_out_of_memory(error) == is_memory


def sha256(result: Any) -> str:
    return str(result.files[0].sha256)


def fail_after_the_pass(monkeypatch: pytest.MonkeyPatch, phase: type[Phase], most_images: int) -> list[int]:
    """Have the losses of larger batches fail after the forward pass, when norms and generators have moved."""
    losses, failed = phase.losses, []

    def fail(self: Phase, look: Look) -> dict[str, Tensor]:
        made = losses(self, look)
        if len(look.batch.labels) > most_images:
            failed.append(len(look.batch.labels))
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return made

    monkeypatch.setattr(phase, "losses", fail)
    return failed


@pytest.mark.parametrize("phase", [TransferPhase, FinetunePhase])
def test_a_pass_that_failed_leaves_no_trace_and_a_resumed_run_halves_no_more(
    make_bench: MakeBench, recipe: Recipe, monkeypatch: pytest.MonkeyPatch, phase: type[Phase]
) -> None:
    """The student is that of a run which took halves from the beginning, and so where it was interrupted."""
    mixed = Recipe.model_validate(
        {**recipe.model_dump(), "finetune": {**recipe.finetune.model_dump(), "mixup": 0.2}}  # type: ignore[union-attr]
    )
    if phase is TransferPhase:
        mixed = Recipe.model_validate({**recipe.model_dump(), "finetune": None})
    else:
        mixed = Recipe.model_validate({**mixed.model_dump(), "transfer": None})
    monkeypatch.setenv(HALVINGS_VARIABLE, "1")
    expected = sha256(make_bench("halves", recipe=mixed).distill())
    monkeypatch.delenv(HALVINGS_VARIABLE)
    failed = fail_after_the_pass(monkeypatch, phase, most_images=20)
    surprised = make_bench("surprised", recipe=mixed)
    assert sha256(surprised.distill()) == expected
    assert failed == [40]
    (told,) = surprised.events("run.micro_batch")
    assert (told.phase, told.step, told.images, told.batch) == (phase.name, 0, 20, 40)

    stopped = make_bench("stopped", recipe=mixed)
    for stop_after in (3, 2):
        with pytest.raises(Stopped):
            stopped.distill(stop_after=stop_after)
    assert sha256(stopped.distill()) == expected
    assert failed == [40, 40], "once, in the first attempt"
    assert len(stopped.events("run.micro_batch")) == 1


def test_what_earlier_attempts_met_is_told(
    make_bench: MakeBench, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HALVINGS_VARIABLE, "2")
    bench = make_bench("twice", recipe=recipe)
    bench.distill()
    (told,) = bench.events("run.micro_batch")
    assert (told.images, told.batch, told.step) == (10, 40, 0)
    assert "earlier attempt" in told.reason


_STARVED = """
import resource, sys
from pathlib import Path
import abcore.run
abcore.run.get_ready()
mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
_, most = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (mapped + int(sys.argv[1]), most))
ended = abcore.run.main([sys.argv[2]])
resource.setrlimit(resource.RLIMIT_AS, (most, most))  # what runs at exit, as a measurement of coverage, has room
sys.exit(ended)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads its size in /proc")
@pytest.mark.parametrize(("room_bytes", "ends"), [(480 * 2**20, "in parts"), (20 * 2**20, "out of memory")])
def test_a_real_limit_of_this_machine(
    make_bench: MakeBench, recipe: Recipe, room_bytes: int, ends: str
) -> None:
    """96 images of 64x64 at a time want about 700 MB, the address space has less left; nothing fits into 20 MiB."""
    finetune = Finetune(epochs=1, batch_size=96, kd_weight=0, cross_entropy_weight=1)
    alone = Recipe.model_validate({**recipe.model_dump(), "transfer": None, "finetune": finetune})
    bench = make_bench("starved", recipe=alone, teacher=None, student=STUDENT)
    save_large_images(bench.workspace / "inputs" / "dataset.safetensors")
    program = [sys.executable, "-c", _STARVED, str(room_bytes), str(bench.workspace)]
    for attempt in range(3):
        # One arena: each thread's own would reserve 64 MiB of addresses.
        environment = {**os.environ, "MALLOC_ARENA_MAX": "1", HALVINGS_VARIABLE: str(attempt)}
        ended = subprocess.run(program, check=False, env=environment, capture_output=True)
        if ended.returncode not in ANSWERED_BY_HALVES:
            break
    told = [record.images for record in bench.events("run.micro_batch")]
    print(ended.returncode, told, ended.stderr.decode()[-2000:])
    if ends == "in parts":
        assert ended.returncode == ExitCode.DONE
        assert told
        assert told[-1] < 96
    else:
        assert ended.returncode == ExitCode.OUT_OF_MEMORY
        assert not (bench.workspace / "outputs" / "result.json").exists()


def save_large_images(path: Path) -> None:
    splits = {
        name: Split(torch.randint(0, 256, (count, 1, 64, 64), dtype=torch.uint8), torch.arange(count) % 10)
        for name, count in (("train", 96), ("test", 10))
    }
    report = DatasetReport(
        format="npz",
        image=ImageShape(channels=1, height=64, width=64),
        classes=tuple("0123456789"),
        splits={
            name: SplitReport(num_images=len(split), class_counts=(1,) * 10) for name, split in splits.items()
        },
        normalization=Normalization(mean=(0.5,), std=(0.3,)),
    )
    save_dataset(path, ImageDataset(splits, report))
