"""The training loop on real runs: the same seed gives the same bits, however often the run was stopped."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from abcore.checkpoints import Checkpoints
from abcore.events import Progress
from abcore.meters import Diverged, LossMeter, Pace, Wait
from abcore.optim import build_optimizer, learning_rate
from abcore.progress import Itinerary, PhaseLength, Position, Stopped, ends_window
from abcore.specs.recipes import ActivationBoundary, Finetune, Optimizer, Recipe, Schedule, Transfer
from abcore.specs.refusals import Refusal
from abcore.specs.runs import RunResult

MakeBench = Callable[..., Any]


def student_sha256(result: RunResult) -> str:
    return next(file.sha256 for file in result.files if file.name == "student.safetensors")


def changed(recipe: Recipe, **changes: Any) -> Recipe:
    return Recipe.model_validate({**recipe.model_dump(), **changes})


@pytest.fixture
def uninterrupted(make_bench: MakeBench) -> str:
    """Sha256 of the student of an uninterrupted run."""
    return student_sha256(make_bench("uninterrupted").distill())


def test_the_same_seed_gives_the_same_student(
    make_bench: MakeBench, recipe: Recipe, uninterrupted: str
) -> None:
    assert student_sha256(make_bench("again").distill()) == uninterrupted
    other = make_bench("other", recipe=changed(recipe, seed=1))
    assert student_sha256(other.distill()) != uninterrupted


# The run asks 12 times in steps, and in between once for each evaluated batch: every kind of moment is among these.
@pytest.mark.parametrize(
    "stops", [[1], [3], [4], [2, 2, 2, 2, 2], [5, 6], [9], [14], [0, 17], [18], [20], [21]]
)
def test_a_stopped_run_ends_with_the_same_student(
    make_bench: MakeBench, uninterrupted: str, stops: list[int]
) -> None:
    bench = make_bench("stopped")
    for count, stop_after in enumerate(stops, start=1):
        with pytest.raises(Stopped):
            bench.distill(stop_after=stop_after)
        assert len(bench.events("run.resumed")) == count - 1
    assert student_sha256(bench.distill()) == uninterrupted


def test_resuming_counts_no_loss_twice(make_bench: MakeBench) -> None:
    whole, stopped = make_bench("whole"), make_bench("stopped")
    whole.distill()
    for stop_after in (2, 4, 5):
        with pytest.raises(Stopped):
            stopped.distill(stop_after=stop_after)
    stopped.distill()

    def figures(bench: Any) -> dict[Any, float]:
        return {
            (record.phase, record.step, name): value
            for record in bench.events("metrics")
            for name, value in record.values.items()
        }

    assert figures(stopped) == figures(whole)


@pytest.mark.parametrize("finetune", [None, {"epochs": 1, "batch_size": 40}])
def test_either_phase_may_be_left_out(
    make_bench: MakeBench, recipe: Recipe, finetune: dict[str, Any] | None
) -> None:
    changes = {"finetune": finetune} if finetune is None else {"transfer": None, "finetune": finetune}
    bench = make_bench("one", recipe=changed(recipe, **changes))
    report = bench.distill().report
    phases = [record.phase for record in bench.events("phase.started")]
    assert phases == (["transfer"] if finetune is None else ["finetune"])
    assert bool(report.boundary_similarity) == (finetune is None)


def test_a_student_trains_alone(make_bench: MakeBench, recipe: Recipe) -> None:
    finetune = Finetune(epochs=2, batch_size=40, kd_weight=0, cross_entropy_weight=1)
    bench = make_bench("alone", teacher=None, recipe=changed(recipe, transfer=None, finetune=finetune))
    (bench.workspace / "inputs" / "teacher.safetensors").unlink()
    report = bench.distill().report
    assert report.teacher is None
    assert report.teacher_accuracy == report.agreement == {}
    assert set(report.student_accuracy) == {"test"}


def test_a_recipe_that_asks_a_teacher_needs_one(make_bench: MakeBench) -> None:
    with pytest.raises(Refusal) as refusal:
        make_bench("none", teacher=None).distill()
    assert refusal.value.problem.code == "recipe.needs_teacher"


def test_a_diverged_loss_is_refused_at_its_step(make_bench: MakeBench, recipe: Recipe) -> None:
    finetune = Finetune(epochs=2, batch_size=40, cross_entropy_weight=1e39)
    bench = make_bench("nan", recipe=changed(recipe, transfer=None, finetune=finetune))
    with pytest.raises(Refusal) as refusal:
        bench.distill()
    problem = refusal.value.problem
    assert problem.code == "training.diverged"
    assert problem.where == "recipe.finetune.optimizer.learning_rate"
    assert "step 0 (epoch 0)" in problem.message
    assert problem.hint


def test_a_run_that_diverges_keeps_its_last_good_checkpoint(make_bench: MakeBench, recipe: Recipe) -> None:
    """A step's loss is still finite when its gradient is not: no such weights are ever saved."""
    optimizer = {"learning_rate": 10, "momentum": 0.99, "weight_decay": 1}
    finetune = Finetune(epochs=60, batch_size=40, cross_entropy_weight=1e10, optimizer=optimizer)
    bench = make_bench(
        "nan", recipe=changed(recipe, transfer=None, finetune=finetune), checkpoint_seconds=1e-6
    )
    with pytest.raises(Refusal) as refusal:
        bench.distill()
    newest = max((bench.workspace / "checkpoints").iterdir())
    assert f"the last good checkpoint is {newest.name}" in refusal.value.problem.message
    state = Checkpoints(bench.workspace / "checkpoints").load_newest(pytest.fail)
    assert state is not None
    assert all(tensor.isfinite().all() for tensor in state.state["modules"].values())
    assert bench.events("checkpoint.saved")[-1].file.endswith(newest.name)


def test_a_run_goes_on_with_the_threads_it_began_with(
    make_bench: MakeBench, recipe: Recipe, uninterrupted: str
) -> None:
    """Sums over threads differ in their last bits: a worker with more cores must not change the student."""
    bench = make_bench("threads")
    with pytest.raises(Stopped):
        bench.distill(stop_after=3)
    torch.set_num_threads(3)
    assert student_sha256(bench.distill()) == uninterrupted
    assert torch.get_num_threads() == 1
    assert bench.events("run.started")[-1].device == "cpu (1 threads)"


def test_bf16_trains_and_reports_like_fp32(make_bench: MakeBench, recipe: Recipe) -> None:
    bench = make_bench("bf16", recipe=changed(recipe, precision="bf16"))
    bench.distill()
    weights = load_file(bench.workspace / "outputs" / "student.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32, torch.int64}


def test_a_truncated_checkpoint_costs_its_steps_and_nothing_else(
    make_bench: MakeBench, uninterrupted: str
) -> None:
    bench = make_bench("truncated")
    for stop_after in (3, 2):
        with pytest.raises(Stopped):
            bench.distill(stop_after=stop_after)
    older, newest = sorted((bench.workspace / "checkpoints").iterdir())
    newest.write_bytes(newest.read_bytes()[:-100])
    assert student_sha256(bench.distill()) == uninterrupted
    (note,) = (note for note in bench.events("note") if note.code == "checkpoint.bad")
    assert note.level == "warning"
    assert newest.name in note.message
    assert bench.events("run.resumed")[-1].checkpoint == older.name


def test_checkpoints_come_at_the_asked_pace_and_at_phase_ends(make_bench: MakeBench) -> None:
    rare, often = make_bench("rare"), make_bench("often", checkpoint_seconds=1e-6)
    rare.distill()
    often.distill()
    assert [(r.phase, r.step) for r in rare.events("checkpoint.saved")] == [("finetune", 0), ("finetune", 6)]
    steps = {(r.phase, r.step) for r in often.events("checkpoint.saved")}
    assert steps >= {(phase, step) for phase in ("transfer", "finetune") for step in range(1, 7)}


def test_curves_follow_losses_and_held_out_figures(make_bench: MakeBench) -> None:
    bench = make_bench("curves")
    report = bench.distill().report
    transfer = [r.values for r in bench.events("metrics") if r.phase == "transfer"]
    finetune = [r.values for r in bench.events("metrics") if r.phase == "finetune"]
    losses = [values for values in transfer if "loss" in values]
    assert losses[-1]["loss"] < losses[0]["loss"]
    assert losses[0]["loss"] == pytest.approx(sum(v for k, v in losses[0].items() if k.startswith("loss/")))
    assert {"loss", "loss/kd", "loss/cross_entropy", "learning_rate"} == set(finetune[0])
    for tap in report.boundary_similarity:
        assert transfer[-1][f"boundary_similarity/{tap.teacher}"] == tap.after
    assert finetune[-1]["eval/top1"] == report.student_accuracy["test"].top1
    assert finetune[-1]["eval/agreement"] == report.agreement["test"]


def test_evaluation_may_be_rarer_but_the_last_epoch_has_one(make_bench: MakeBench, recipe: Recipe) -> None:
    finetune = Finetune(epochs=5, batch_size=60)
    bench = make_bench("rare", recipe=changed(recipe, transfer=None, finetune=finetune, evaluate_every=3))
    bench.distill()
    assert [r.epoch for r in bench.events("metrics") if "eval/top1" in r.values] == [2, 4]


def test_a_phase_that_gets_no_better_ends_early_interrupted_or_not(
    make_bench: MakeBench, recipe: Recipe
) -> None:
    # At this rate the student moves so little that its top-1 stays what it was.
    still = {"learning_rate": 1e-9, "weight_decay": 0}
    finetune = Finetune(epochs=9, batch_size=60, patience=2, optimizer=still, schedule={"name": "constant"})
    changes = {"recipe": changed(recipe, transfer=None, finetune=finetune, teacher_source="online")}
    whole, parts = make_bench("whole", **changes), make_bench("parts", **changes)
    sha256 = student_sha256(whole.distill())
    for stop_after in (3, 4):
        with pytest.raises(Stopped):
            parts.distill(stop_after=stop_after)
    assert student_sha256(parts.distill()) == sha256
    for bench in (whole, parts):
        followed = [r.values["eval/top1"] for r in bench.events("metrics") if "eval/top1" in r.values]
        assert 3 <= len(followed) < 9
        assert max(followed[-2:]) <= max(followed[:-2])
        (note,) = (note for note in bench.events("note") if note.code == "training.settled")
        assert f"after {len(followed)} of 9 epochs" in note.message


def test_every_tapped_norm_and_connector_runs_once_a_step(make_bench: MakeBench, recipe: Recipe) -> None:
    bench = make_bench("once", recipe=changed(recipe, finetune=None))
    bench.distill()
    student = load_file(bench.workspace / "outputs" / "student.safetensors")
    counted = {int(value) for name, value in student.items() if name.endswith("num_batches_tracked")}
    assert counted == {6}


def test_the_head_learns_nothing_in_transfer(make_bench: MakeBench, recipe: Recipe) -> None:
    alone = Recipe(
        transfer=None, finetune=Finetune(epochs=1, optimizer=Optimizer(learning_rate=1e-30, weight_decay=0))
    )
    untrained, transferred = (
        make_bench("untrained", recipe=alone),
        make_bench("transferred", recipe=changed(recipe, finetune=None)),
    )
    untrained.distill()
    transferred.distill()
    before, after = (
        load_file(b.workspace / "outputs" / "student.safetensors") for b in (untrained, transferred)
    )
    assert torch.equal(before["fc.weight"], after["fc.weight"])
    assert not torch.equal(before["conv1.weight"], after["conv1.weight"])


def test_a_teacher_that_changes_spoils_the_run(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from abcore.phases import FinetunePhase

    bench = make_bench("changed")
    evaluate = FinetunePhase.evaluate

    def meddle(phase: FinetunePhase) -> dict[str, float]:
        phase._setup.teacher.model.bn1.running_mean[0] += 1e-6  # type: ignore[union-attr]
        return evaluate(phase)

    monkeypatch.setattr(FinetunePhase, "evaluate", meddle)
    with pytest.raises(RuntimeError, match="teacher's state dict changed"):
        bench.distill()
    assert not (bench.workspace / "outputs" / "result.json").exists()


def test_the_wait_for_items_is_theirs_and_not_their_users(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("abcore.meters.time.perf_counter", lambda: now)

    def slow_items() -> Iterator[int]:
        nonlocal now
        for item in range(3):
            now += 2.0
            yield item

    wait = Wait()
    for _ in wait.over(slow_items()):
        now += 5.0
    assert wait.seconds == 6.0


def test_a_report_says_how_long_steps_waited_for_data_over_all_attempts(make_bench: MakeBench) -> None:
    bench = make_bench("waiting")
    with pytest.raises(Stopped):
        bench.distill(stop_after=9)
    earlier = Checkpoints(bench.workspace / "checkpoints").load_newest(lambda _: None)
    assert earlier is not None
    report = bench.distill().report
    assert 0 < earlier.state["data_wait_seconds"] < report.data_wait_seconds < report.training_seconds


def test_the_loss_meter_means_and_restarts() -> None:
    meter = LossMeter(torch.device("cpu"))
    for step, values in enumerate(([1.0, 2.0], [3.0, 6.0])):
        meter.add(("a", "b"), torch.tensor(values), step)
    other = LossMeter(torch.device("cpu"))
    other.load_state_dict(meter.state_dict())
    assert other.take() == meter.take() == {"loss": 6.0, "loss/a": 2.0, "loss/b": 4.0}
    assert meter.count == 0


def test_the_loss_meter_names_the_first_bad_step() -> None:
    meter = LossMeter(torch.device("cpu"))
    for step, value in enumerate((1.0, float("inf"), float("nan"), 1.0), start=10):
        meter.add(("a",), torch.tensor([value]), step)
    with pytest.raises(Diverged) as diverged:
        meter.take()
    assert diverged.value.step == 11


@pytest.mark.parametrize("steps", [1, 2, 22, 49, 50, 99, 391, 10_000])
def test_windows_are_even_and_the_last_ends_the_epoch(steps: int) -> None:
    ends = [step for step in range(1, steps + 1) if ends_window(step, steps)]
    assert ends[-1] == steps
    lengths = [b - a for a, b in pairwise([0, *ends])]
    assert max(lengths) - min(lengths) <= 1
    assert max(lengths) < 100


def test_the_itinerary_counts_over_phases() -> None:
    itinerary = Itinerary([PhaseLength(2, 3, 10), PhaseLength(4, 5, 100)])
    position = Position(1, 2, 3)
    assert itinerary.phase_step(position) == 13
    assert itinerary.global_step(position) == 6 + 13
    assert itinerary.first_epoch(1) == 2
    assert itinerary.images_done(position) == 60 + 1300
    over = Position(2, 0, 0)
    assert itinerary.images_done(over) == itinerary.num_images == 60 + 2000
    assert itinerary.global_step(over) == 26


def test_progress_is_told_at_most_once_an_interval() -> None:
    eager, patient = Pace(100, 0, interval_seconds=0), Pace(100, 0, interval_seconds=1e9)
    assert patient.report("transfer", 0, 1, 50) is None
    record = eager.report("transfer", 0, 1, 50)
    assert isinstance(record, Progress)
    assert record.fraction == 0.5
    assert record.images_per_second > 0
    assert record.eta_seconds > 0


def test_schedules_are_functions_of_the_step() -> None:
    optimizer = Optimizer(learning_rate=0.4)

    def rates(num_steps: int, **schedule: Any) -> list[float]:
        spec = Schedule(**schedule)
        return [round(learning_rate(optimizer, spec, step, num_steps), 12) for step in range(num_steps)]

    assert rates(3, name="constant") == [0.4] * 3
    assert rates(4, name="cosine") == [0.4, 0.341421356237, 0.2, 0.058578643763]
    assert rates(6, name="constant", warmup_fraction=0.5) == [
        0.133333333333,
        0.266666666667,
        0.4,
        0.4,
        0.4,
        0.4,
    ]
    assert (
        rates(10, name="step", milestones=(0.3, 0.6, 0.8), gamma=0.5)
        == [0.4] * 3 + [0.2] * 3 + [0.1] * 2 + [0.05] * 2
    )
    assert rates(6, name="cosine", warmup_fraction=0.5)[2:] == [0.4, 0.4, 0.3, 0.1]


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_only_weights_decay(name: Any) -> None:
    weight, bias = (torch.nn.Parameter(torch.ones(shape)) for shape in ((2, 2), (2,)))
    spec = Optimizer(name=name, learning_rate=0.1, weight_decay=0.5, momentum=0)
    optimizer = build_optimizer(spec, [weight, bias])
    weight.grad, bias.grad = torch.zeros(2, 2), torch.zeros(2)
    optimizer.step()
    assert torch.equal(bias.detach(), torch.ones(2))
    assert torch.allclose(weight.detach(), torch.full((2, 2), 0.95))


def test_adamw_resumes_exactly(make_bench: MakeBench, recipe: Recipe) -> None:
    adamw = Optimizer(name="adamw", learning_rate=0.01)
    method = ActivationBoundary(weight=0.01, margin=0.5)
    recipe = changed(recipe, transfer=Transfer(epochs=2, batch_size=40, optimizer=adamw), method=method)
    expected = student_sha256(make_bench("whole", recipe=recipe).distill())
    bench = make_bench("stopped", recipe=recipe)
    with pytest.raises(Stopped):
        bench.distill(stop_after=3)
    assert student_sha256(bench.distill()) == expected


def test_a_teacher_that_says_nan_is_refused(make_bench: MakeBench) -> None:
    bench = make_bench("nan-teacher")
    path = bench.workspace / "inputs" / "teacher.safetensors"
    weights = load_file(path)
    weights["fc.bias"] += float("nan")
    save_file(weights, path)
    with pytest.raises(Refusal) as refusal:
        bench.distill()
    assert refusal.value.problem.code in ("training.diverged", "evaluation.not_finite")
