"""Compiled passes: the same training within rounding, exactly the same when it is interrupted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._inductor import config as inductor

from abcore.data.batches import Batch, View
from abcore.events import Note
from abcore.phases import Look, Phase
from abcore.progress import Stopped
from abcore.replaying import Replays
from abcore.specs.recipes import Finetune, Recipe, Transfer
from abcore.views import Views

MakeBench = Callable[..., Any]
SHORT = {"epochs": 2, "batch_size": 50}
"""Steps of 50, 50 and 20 images."""

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")


@pytest.fixture(autouse=True)
def nothing_compiled_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))


@pytest.mark.slow
def test_a_compiled_run_trains_as_any_other_and_resumes_exactly(
    make_bench: MakeBench, recipe: Recipe
) -> None:
    short = recipe.model_copy(update={"transfer": Transfer(**SHORT), "finetune": Finetune(**SHORT)})
    plain = make_bench("plain", recipe=short)
    plain.distill()
    compiled = short.model_copy(update={"compile": True})
    whole = make_bench("whole", recipe=compiled)
    expected = whole.distill().files[0].sha256
    assert [message.split(",")[0] for message in told_of_passes(whole)] == [
        "A pass of phase transfer is compiled",
        "A pass of phase finetune is compiled",
    ]
    losses, losses_uncompiled = losses_of(whole), losses_of(plain)
    assert len(losses) == 2 * 4 + 2 * 2
    assert losses == pytest.approx(losses_uncompiled, rel=1e-3)

    stopped = make_bench("stopped", recipe=compiled)
    for stop_after in (2, 3):  # before an epoch's last batch, which is small, and after it
        with pytest.raises(Stopped):
            stopped.distill(stop_after=stop_after)
    assert stopped.distill().files[0].sha256 == expected


def told_of_passes(bench: Any) -> list[str]:
    return [note.message for note in bench.events("note") if note.code == "training.pass"]


def losses_of(bench: Any) -> list[float]:
    values = [record.values for record in bench.events("metrics")]
    return [value for each in values for name, value in each.items() if name.startswith("loss")]


class _Small(Phase):
    """A linear map whose losses, if it `asks`, depend on what only Python sees."""

    name = "finetune"

    def __init__(self, *, asks: bool = False, repeats: bool = True, num_outputs: int = 3) -> None:
        torch.manual_seed(0)
        super().__init__(Finetune(batch_size=8), nn.ModuleDict({"model": nn.Linear(4, num_outputs)}))
        self._asks, self._repeats = asks, repeats
        self.times_in_python = 0

    @property
    def repeats(self) -> bool:
        return self._repeats

    def look(self, batch: Batch) -> Look:
        return Look(batch, Views())

    def losses(self, look: Look) -> dict[str, Tensor]:
        if not torch.compiler.is_compiling():
            self.times_in_python += 1
        value = self.trained["model"](look.batch.images).square().mean()
        return {"square": -value if self._asks and value.item() < 0 else value}

    def evaluate(self) -> dict[str, float]:
        return {}


class _Passes:
    """Passes of one phase, whose recipe asks for `torch.compile`."""

    def __init__(self, phase: _Small) -> None:
        self.told: list[Note] = []
        self.phase = phase
        self._replays = Replays(torch.device("cpu"), self.told.append, compiles=True)

    def check(self, num_images: int) -> None:
        """Take a pass, and compare what comes of it with the phase's own losses."""
        weight = self.phase.trained["model"].weight
        images = torch.arange(num_images * 4.0).view(num_images, 4)
        labels = torch.zeros(num_images, dtype=torch.int64)
        look = self.phase.look(Batch(images, labels, torch.arange(num_images), View("train")))
        expected = nn.functional.linear(images, weight, self.phase.trained["model"].bias).square().mean()
        (gradient,) = torch.autograd.grad(expected, weight)
        weight.grad = None
        names, losses = self._replays.take_pass(
            self.phase, look, lambda: torch.autocast("cpu", enabled=False)
        )
        assert names == ("square",)
        torch.testing.assert_close(losses, expected.detach()[None])
        torch.testing.assert_close(weight.grad, gradient)


def test_whole_batches_are_compiled_and_a_smaller_last_one_is_not() -> None:
    passes = _Passes(_Small())
    for num_images, times_in_python in ((8, 1), (8, 1), (5, 2), (8, 2)):
        passes.check(num_images)
        assert passes.phase.times_in_python == times_in_python
    (note,) = passes.told
    assert (note.level, note.code) == ("info", "training.pass")
    assert "is compiled" in note.message


@pytest.mark.parametrize(
    ("phase", "reason"),
    [(_Small(asks=True), "cannot be compiled"), (_Small(repeats=False), "it mixes images")],
)
def test_what_cannot_be_compiled_is_told_once_and_trains_as_it_is(phase: _Small, reason: str) -> None:
    passes = _Passes(phase)
    for _ in range(2):
        passes.check(8)
    (note,) = passes.told
    assert (note.level, note.code) == ("warning", "training.pass")
    assert reason in note.message


def test_a_worker_without_a_compiler_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inductor.cpp, "cxx", ("no-such-compiler",))
    passes = _Passes(_Small(num_outputs=5))  # what other tests have compiled needs no compiler
    passes.check(8)
    (note,) = passes.told
    assert note.level == "warning"
    assert "no-such-compiler" in note.message
