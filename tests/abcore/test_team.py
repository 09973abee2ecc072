"""Several processes that train one student: the same steps as one process, the same life, nothing left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from abcore.events import EventReader
from abcore.specs.recipes import Augmentation, Finetune, Recipe
from abcore.specs.runs import ExitCode, RunResult
from abcore.team import Team

PLAIN = {
    "arch": "layers",
    "layers": [
        {"type": "conv", "out_channels": 8},
        {"type": "activation"},
        {"type": "conv", "out_channels": 16, "stride": 2},
        {"type": "activation"},
    ],
}
MakeBench = Callable[..., Any]
Start = Callable[[Path], "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Run workspaces in groups of their own, as a leash does; whatever is left of them at the end is killed."""
    children: list[subprocess.Popen[bytes]] = []

    def start_child(workspace: Path) -> "subprocess.Popen[bytes]":
        with (workspace / "log.txt").open("ab") as log:
            command = [sys.executable, "-m", "abcore.run", str(workspace)]
            children.append(subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True))
        return children[-1]

    yield start_child
    for child in children:
        child.kill()
        child.wait()


def wait_for(workspace: Path, child: "subprocess.Popen[bytes]", kind: str, count: int = 1) -> None:
    """Wait until the run has told `count` records of a type."""
    deadline = time.monotonic() + 90
    while sum(one.type == kind for one in EventReader(workspace / "events.jsonl").read()) < count:
        assert child.poll() is None, log(workspace)
        assert time.monotonic() < deadline, f"no {kind}"
        time.sleep(0.01)


def followers_of(child: "subprocess.Popen[bytes]") -> list[int]:
    """The processes that a run has started, which are all `abcore.following`."""
    children = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
    return [int(pid) for pid in children]


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def log(workspace: Path) -> str:
    return (workspace / "log.txt").read_text()


def weights(workspace: Path) -> dict[str, torch.Tensor]:
    return load_file(workspace / "outputs" / "student.safetensors")


def losses(bench: Any) -> list[float]:
    told = [metric.values for metric in bench.events("metrics")]
    return [values["loss/cross_entropy"] for values in told if "loss/cross_entropy" in values]


@pytest.fixture
def long_recipe(recipe: Recipe) -> Recipe:
    phases = {"transfer": {"epochs": 3, "batch_size": 40}, "finetune": {"epochs": 3, "batch_size": 40}}
    return Recipe.model_validate({**recipe.model_dump(), **phases})


def test_shares_are_the_batch_and_weigh_what_they_hold() -> None:
    index_B = torch.randperm(11)
    shares = [Team(rank, 3).share(index_B) for rank in range(3)]
    assert torch.equal(torch.cat([part for part, _ in shares]), index_B)
    assert sum(weight for _, weight in shares) == pytest.approx(1.0)
    assert [weight for _, weight in shares] == [len(part) / 11 for part, _ in shares]
    few = [Team(rank, 3).share(index_B[:5]) for rank in range(3)]
    assert all(torch.equal(part, index_B[:5]) and weight == pytest.approx(1 / 3) for part, weight in few)


def test_the_steps_of_two_are_the_steps_of_one(make_bench: MakeBench, start: Start) -> None:
    """Where no batch norm measures a share by itself; 41 images do not divide by two."""
    recipe = Recipe(
        method={"name": "kd"},
        transfer=None,
        finetune=Finetune(epochs=2, batch_size=41, cross_entropy_weight=0.5),
        augmentation=Augmentation(crop_padding=1, horizontal_flip=False),
    )
    alone = make_bench("alone", recipe=recipe, student=PLAIN)
    alone.distill()
    together = make_bench("together", recipe=recipe, student=PLAIN, devices=2)
    assert start(together.workspace).wait(120) == ExitCode.DONE, log(together.workspace)
    expected, found = weights(alone.workspace), weights(together.workspace)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5)
    of_one, of_two = losses(alone), losses(together)
    assert of_one
    assert of_two == pytest.approx(of_one, rel=1e-4)


@pytest.mark.slow
def test_two_do_as_well_as_one_whatever_happens_to_them(
    make_bench: MakeBench, start: Start, long_recipe: Recipe
) -> None:
    alone = make_bench("alone", recipe=long_recipe).distill().report
    calm = make_bench("calm", recipe=long_recipe, devices=2)
    assert start(calm.workspace).wait(120) == ExitCode.DONE, log(calm.workspace)
    assert calm.events("run.started")[0].device.startswith("2 x cpu")
    together = RunResult.model_validate_json((calm.workspace / "outputs" / "result.json").read_bytes()).report
    # 60 held-out images: four standard deviations of a difference are some 25 points.
    assert abs(together.student_accuracy["test"].top1 - alone.student_accuracy["test"].top1) < 0.25
    for of_two, of_one in zip(together.boundary_similarity, alone.boundary_similarity, strict=True):
        assert of_two.before == of_one.before
        assert of_two.after == pytest.approx(of_one.after, abs=0.05)

    bench = make_bench("disturbed", recipe=long_recipe, devices=2, checkpoint_seconds=1e-6)
    child = start(bench.workspace)
    wait_for(bench.workspace, child, "checkpoint.saved", 3)
    followers = followers_of(child)
    assert len(followers) == 1
    os.kill(followers[0], signal.SIGKILL)
    assert child.wait(60) == 1, "a run without one of its processes is a crash, at once"

    child = start(bench.workspace)
    wait_for(bench.workspace, child, "run.resumed")
    followers = followers_of(child)
    os.killpg(child.pid, signal.SIGTERM)
    assert child.wait(60) == ExitCode.INTERRUPTED
    assert not any(lives(pid) for pid in followers)

    assert start(bench.workspace).wait(120) == ExitCode.DONE, log(bench.workspace)
    for name, tensor in weights(bench.workspace).items():
        assert torch.equal(tensor, weights(calm.workspace)[name]), name


def test_a_loss_that_is_not_finite_is_refused_by_all(
    make_bench: MakeBench, start: Start, recipe: Recipe
) -> None:
    finetune = Finetune(epochs=2, batch_size=40, cross_entropy_weight=1e39)
    wild = recipe.model_copy(update={"transfer": None, "finetune": finetune})
    bench = make_bench("wild", recipe=wild, devices=2)
    child = start(bench.workspace)
    assert child.wait(120) == ExitCode.REFUSED, log(bench.workspace)
    assert bench.events("run.failed")[0].problems[0].code == "training.diverged"
