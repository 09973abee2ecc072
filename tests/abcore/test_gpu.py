"""On a GPU: passes are replayed, and give what they gave; runs learn, and go on where they were stopped."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from abcore.caching import choose_answers
from abcore.data.batches import Batch
from abcore.events import Note
from abcore.losses import activation_boundary_loss
from abcore.micro_batches import MicroBatches
from abcore.phases import FinetunePhase, Look, Phase, TransferPhase, build_phases
from abcore.progress import Stopped
from abcore.replaying import FIRST_STEPS, RecordedPass, Replays, take_pass
from abcore.restoring import Before, random_state
from abcore.setup import Setup, prepare
from abcore.specs.recipes import Finetune, Recipe
from abcore.views import Views

MakeBench = Callable[..., Any]

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

CUDA = torch.device("cuda:0")


@pytest.fixture(autouse=True)
def _on_gpu(monkeypatch: pytest.MonkeyPatch, _one_thread: None) -> None:
    monkeypatch.setenv("ABDISTILL_DEVICE", "cuda")


def with_(recipe: Recipe, **changes: Any) -> Recipe:
    return Recipe.model_validate({**recipe.model_dump(), **changes})


def long(recipe: Recipe, **changes: Any) -> Recipe:
    """Phases long enough to be recorded: three steps an epoch."""
    epochs = FIRST_STEPS
    return with_(
        recipe,
        transfer={"epochs": epochs, "batch_size": 40},
        finetune={"epochs": epochs, "batch_size": 40, "cross_entropy_weight": 0.5},
        **changes,
    )


def setup_of(bench: Any) -> Setup:
    return prepare(bench.run, bench.workspace, CUDA, lambda: False)


def phase_of(setup: Setup, kind: type[Phase]) -> Phase:
    return next(phase for phase in build_phases(setup, choose_answers(setup)) if isinstance(phase, kind))


def two_batches(setup: Setup) -> list[Batch]:
    assert setup.run.recipe.finetune is not None
    batches = setup.training_batches(setup.run.recipe.finetune, 0, 0)
    return [next(batches), next(batches)]


def gradients(phase: Phase) -> list[Tensor]:
    return [each.grad.clone() for each in phase.trained.parameters() if each.grad is not None]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("source", ["cached", "online"])
@pytest.mark.parametrize("kind", [TransferPhase, FinetunePhase])
def test_a_replayed_pass_gives_what_the_pass_gives(
    make_bench: MakeBench, recipe: Recipe, kind: type[Phase], source: str, precision: str
) -> None:
    setup = setup_of(make_bench(recipe=with_(recipe, precision=precision, teacher_source=source)))
    phase = phase_of(setup, kind)
    with phase.open():
        recorded_on, other = (phase.look(batch) for batch in two_batches(setup))
        recorded = RecordedPass(phase, recorded_on, setup.autocast, phase.losses)
        for look in (other, recorded_on, other):
            phase.trained.zero_grad(set_to_none=True)
            names, expected = take_pass(phase.losses, look, setup.autocast)
            expected_gradients = gradients(phase)
            assert recorded.takes(look.batch)
            assert recorded.fits(look)
            phase.trained.zero_grad(set_to_none=True)
            assert recorded.replay(look)[0] == names
            losses = recorded.replay(look)[1]
            torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-6)
            for gradient, wanted in zip(gradients(phase), expected_gradients, strict=True):
                assert (gradient - wanted).norm() <= 2e-2 * wanted.norm() + 1e-6


@pytest.mark.parametrize(
    ("dtype", "margin"), [(torch.float32, 0.3), (torch.bfloat16, 0.25), (torch.float16, 0.25)]
)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_loss_of_one_kernel_is_the_loss_of_several(
    dtype: torch.dtype, margin: float, memory_format: torch.memory_format
) -> None:
    """On a CPU it is written as separate steps: the same pull, bit for bit, at the margin and beyond it too."""
    preact_BCHW = torch.randn(6, 5, 7, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    preact_BCHW[0, 0, 0] = torch.tensor([margin, -margin, 0.0], dtype=dtype)
    preact_BCHW[1, 0, 0] = torch.tensor([torch.inf, -torch.inf, 3e4], dtype=dtype)
    preact_BCHW = preact_BCHW.to(memory_format=memory_format)
    for on in (False, True):
        teacher_on = (torch.randn(6, 5, 7, 3, generator=torch.Generator().manual_seed(1)) > 0) ^ on
        results = []
        for device in ("cpu", "cuda"):
            leaf = preact_BCHW.detach().to(device).requires_grad_()
            finite = activation_boundary_loss(leaf[2:], teacher_on[2:].to(device), margin)
            torch.autograd.backward(activation_boundary_loss(leaf, teacher_on.to(device), margin))
            assert leaf.grad is not None
            results.append((finite.detach().cpu(), leaf.grad.cpu()))
        (loss, gradient), (other_loss, other_gradient) = results
        assert torch.equal(gradient, other_gradient)
        torch.testing.assert_close(loss, other_loss, rtol=1e-5, atol=0)


def test_what_is_not_a_number_stays_so_in_the_loss_of_one_kernel() -> None:
    preact_BCHW = torch.full((2, 1, 1, 1), torch.nan, device=CUDA)
    for on in (False, True):
        teacher_on = torch.full((2, 1, 1, 1), on, device=CUDA)
        assert activation_boundary_loss(preact_BCHW, teacher_on, 1.0).isnan()


def test_nothing_is_set_aside_before_a_replayed_pass(
    make_bench: MakeBench, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = setup_of(make_bench(recipe=recipe))
    phase = phase_of(setup, TransferPhase)
    passes = MicroBatches(CUDA, lambda _: None)
    copies = 0

    class Counted(Before):
        def __init__(self, trained: nn.Module, device: torch.device) -> None:
            nonlocal copies
            copies += 1
            super().__init__(trained, device)

    monkeypatch.setattr("abcore.micro_batches.Before", Counted)
    batch = two_batches(setup)[0]
    with phase.open():
        for step in range(FIRST_STEPS + 5):
            phase.trained.zero_grad(set_to_none=True)
            passes.backward(phase, batch, step, setup.autocast)
    assert copies == FIRST_STEPS


def test_recording_leaves_no_trace(make_bench: MakeBench, recipe: Recipe) -> None:
    setup = setup_of(make_bench(recipe=recipe))
    phase = phase_of(setup, TransferPhase)
    with phase.open():
        look = phase.look(two_batches(setup)[0])
        torch.cuda.manual_seed(5)
        before = {name: value.clone() for name, value in phase.trained.state_dict().items()}
        random = random_state(CUDA)
        RecordedPass(phase, look, setup.autocast, phase.losses)
    assert all(torch.equal(value, before[name]) for name, value in phase.trained.state_dict().items())
    assert all(parameter.grad is None for parameter in phase.trained.parameters())
    assert all(torch.equal(value, random[name]) for name, value in random_state(CUDA).items())


class _Dropping(Phase):
    """A loss that draws on the device, and, where it `waits`, one that cannot be recorded."""

    name = "finetune"

    def __init__(self, waits: str) -> None:
        torch.manual_seed(0)
        super().__init__(Finetune(batch_size=8), nn.ModuleDict({"model": nn.Linear(64, 64)}).to(CUDA))
        self._waits = waits

    def look(self, batch: Batch) -> Look:
        return Look(batch, Views())

    def losses(self, look: Look) -> dict[str, Tensor]:
        values = nn.functional.dropout(self.trained["model"](look.batch.images), 0.5)
        loss = values.square().mean()
        if self._waits == "for a value":
            loss = loss + 0 * loss.item()
        if self._waits == "for all":
            torch.cuda.synchronize()
        return {"square": loss}

    def evaluate(self) -> dict[str, float]:
        return {}


@pytest.mark.parametrize("waits", ["", "for a value", "for all"])
def test_what_draws_goes_on_drawing_and_what_waits_is_not_recorded(waits: str) -> None:
    told: list[Note] = []
    phase, replays = _Dropping(waits), Replays(CUDA, told.append)
    batch = Batch(torch.ones(8, 64, device=CUDA), torch.zeros(8, device=CUDA), torch.arange(8), None)  # type: ignore[arg-type]
    seen = [
        float(replays.take_pass(phase, phase.look(batch), lambda: torch.autocast("cuda", enabled=False))[1])
        for _ in range(FIRST_STEPS + 20)
    ]
    assert len(set(seen)) == len(seen)
    (note,) = told
    assert ("cannot be recorded" in note.message) == bool(waits)
    torch.manual_seed(1)
    first = torch.rand(5, device=CUDA)
    torch.manual_seed(1)
    assert torch.equal(first, torch.rand(5, device=CUDA))


def test_a_run_is_replayed_and_learns_as_on_a_cpu(
    make_bench: MakeBench, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench("gpu", recipe=long(recipe))
    report = bench.distill().report
    notes = [note.message for note in bench.events("note") if note.code == "training.pass"]
    assert len(notes) == 2
    assert all("as it is" in note for note in notes), notes
    monkeypatch.setenv("ABDISTILL_DEVICE", "cpu")
    there = make_bench("cpu", recipe=long(recipe)).distill().report
    assert report.student_accuracy["test"].top1 == pytest.approx(
        there.student_accuracy["test"].top1, abs=0.12
    )
    for pair, other in zip(report.boundary_similarity, there.boundary_similarity, strict=True):
        assert pair.after == pytest.approx(other.after, abs=0.05)


def weights_of(bench: Any) -> dict[str, Tensor]:
    return load_file(bench.workspace / "outputs" / "student.safetensors")


def furthest(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest distance of a weight tensor, over its length."""
    return max(
        float((value.float() - other[name].float()).norm() / (value.float().norm() + 1e-12))
        for name, value in one.items()
        if value.is_floating_point()
    )


def test_a_run_that_was_stopped_ends_as_near_as_one_that_is_repeated(
    make_bench: MakeBench, recipe: Recipe
) -> None:
    """Sums on a GPU come in any order, so two undisturbed runs differ too: a stop must cost no more than that."""
    recipe = long(recipe, precision="fp32", memory_format="contiguous")
    alone = make_bench("alone", recipe=recipe)
    alone.distill()
    again = make_bench("again", recipe=recipe)
    again.distill()
    stopped = make_bench("stopped", recipe=recipe)
    stops = 0
    for after in (37, 61, 11, 80):
        try:
            stopped.distill(stop_after=after)
        except Stopped:
            stops += 1
    stopped.distill()
    assert stops >= 3
    by_chance, by_stops = (furthest(weights_of(alone), weights_of(other)) for other in (again, stopped))
    print(f"resume on CUDA: repeated {by_chance:.2e}, stopped {stops} times {by_stops:.2e}")
    assert by_stops <= max(10 * by_chance, 1e-3)


def test_the_cached_losses_are_the_online_ones(make_bench: MakeBench, recipe: Recipe) -> None:
    losses = {}
    for source in ("cached", "online"):
        bench = make_bench(source, recipe=long(recipe, teacher_source=source, precision="fp32"))
        bench.distill()
        losses[source] = [
            each.values["loss"]
            for each in bench.events("metrics")
            if each.phase == "transfer" and "loss" in each.values
        ]
    assert len(losses["cached"]) == len(losses["online"]) > 0
    assert losses["cached"][:10] == pytest.approx(losses["online"][:10], rel=1e-2)


def test_threads_of_the_process_may_use_the_gpu_while_a_pass_is_recorded(
    make_bench: MakeBench, recipe: Recipe
) -> None:
    setup = setup_of(make_bench(recipe=recipe))
    phase = phase_of(setup, FinetunePhase)
    over = threading.Event()
    failed: list[Exception] = []

    def allocate() -> None:
        try:
            while not over.is_set():
                torch.empty(1 << 20, device=CUDA).add_(1)
        except RuntimeError as error:
            failed.append(error)

    thread = threading.Thread(target=allocate)
    thread.start()
    try:
        with phase.open():
            RecordedPass(phase, phase.look(two_batches(setup)[0]), setup.autocast, phase.losses)
    finally:
        over.set()
        thread.join()
    assert not failed


def test_the_child_runs_on_the_gpu(make_bench: MakeBench, recipe: Recipe) -> None:
    bench = make_bench("child", recipe=long(recipe))
    command = [sys.executable, "-m", "abcore.run", str(bench.workspace)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((bench.workspace / "outputs" / "report.json").read_text())
    assert report["device"].startswith("cuda")
    assert {each["device"].split(":")[0] for each in report["latency"]} >= {"cuda"}
