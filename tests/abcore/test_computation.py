"""How a run computes: chosen by a clear difference, written down, and followed by whoever goes on or repeats it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from abcore import computation
from abcore.computation import LEAST_STEPS, choose_computation
from abcore.devices import STEPS_WORTH_A_SEARCH
from abcore.progress import Stopped
from abcore.setup import prepare
from abcore.specs.architectures import ImageShape, ModelSpec, WideResNet
from abcore.specs.computations import Computation
from abcore.specs.recipes import Recipe

CPU = torch.device("cpu")
STUDENT = ModelSpec(
    architecture=WideResNet(arch="wide_resnet", depth=10, width=1),
    image=ImageShape(channels=1, height=8, width=8),
    num_classes=10,
)
BF16 = Computation(precision="bf16", memory_format="channels_last", why="measured elsewhere")


def chosen(fields: dict[str, Any], num_steps: int = LEAST_STEPS) -> tuple[str, str]:
    found = choose_computation(Recipe.model_validate(fields), STUDENT, CPU, num_steps=num_steps)
    return found.precision, found.memory_format


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return what sets the milliseconds that a probe will find."""

    def set_times(**milliseconds: float) -> None:
        def probe(ways: list[Any], *_: Any) -> dict[Any, float]:
            return {(precision, layout): milliseconds[f"{precision}_{layout}"] for precision, layout in ways}

        monkeypatch.setattr(computation, "_probe", probe)

    return set_times


def test_the_first_way_is_left_for_one_that_is_clearly_faster(probed: Callable[..., None]) -> None:
    probed(fp32_channels_last=100, fp32_contiguous=90, bf16_channels_last=85)
    assert chosen({}) == ("fp32", "channels_last")
    probed(fp32_channels_last=100, fp32_contiguous=90, bf16_channels_last=50)
    assert chosen({}) == ("bf16", "channels_last")
    probed(fp32_channels_last=100, fp32_contiguous=60, bf16_channels_last=55)
    assert chosen({}) == ("fp32", "contiguous")


def test_what_the_recipe_says_is_not_measured_against(probed: Callable[..., None]) -> None:
    probed(fp32_channels_last=100, fp32_contiguous=10, bf16_channels_last=1)
    assert chosen({"precision": "fp32"}) == ("fp32", "contiguous")
    assert chosen({"memory_format": "channels_last"}) == ("bf16", "channels_last")
    assert chosen({"precision": "bf16", "memory_format": "contiguous"}) == ("bf16", "contiguous")
    assert chosen({"method": {"name": "fitnets"}}) == ("fp32", "contiguous")
    assert chosen({}, num_steps=LEAST_STEPS - 1) == ("fp32", "channels_last")


def test_a_real_probe_says_what_it_measured_and_draws_no_number() -> None:
    before = torch.get_rng_state()
    found = choose_computation(Recipe(), STUDENT, CPU, num_steps=LEAST_STEPS)
    assert torch.equal(torch.get_rng_state(), before)
    assert found.why.count(" ms") == 3


def student_sha256(bench: Any) -> str:
    (student,) = (file.sha256 for file in bench.distill().files if file.name == "student.safetensors")
    return str(student)


def test_a_run_goes_on_as_it_began_wherever_it_goes_on(
    make_bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = student_sha256(make_bench("whole"))
    stopped, elsewhere = make_bench("stopped"), make_bench("elsewhere")
    with pytest.raises(Stopped):
        stopped.distill(stop_after=4)
    monkeypatch.setattr("abcore.setup.choose_computation", lambda *_, **__: BF16)
    assert student_sha256(elsewhere) != expected
    assert student_sha256(stopped) == expected
    first, second = (record.computation for record in stopped.events("run.started"))
    assert first == second
    assert first.precision == "fp32"


def test_a_recipe_with_what_a_report_says_repeats_its_run(
    make_bench: Callable[..., Any], recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("abcore.setup.choose_computation", lambda *_, **__: BF16)
        first = make_bench("first")
        expected = student_sha256(first)
        report = first.distill().report
    assert report.computation == BF16
    told = {"precision": report.computation.precision, "memory_format": report.computation.memory_format}
    again = make_bench("again", recipe=Recipe.model_validate({**recipe.model_dump(), **told}))
    assert student_sha256(again) == expected


def test_only_a_long_run_searches_for_the_fastest_kernels(
    make_bench: Callable[..., Any], recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    found = []
    for epochs in (1, STEPS_WORTH_A_SEARCH // 50):
        finetune = {"epochs": epochs, "batch_size": 2, "kd_weight": 0, "cross_entropy_weight": 1}
        told = {**recipe.model_dump(), "transfer": None, "finetune": finetune, "precision": "fp32"}
        bench = make_bench(f"{epochs}", recipe=Recipe.model_validate(told | {"memory_format": "contiguous"}))
        prepare(bench.run, bench.workspace, torch.device("cpu"), lambda: False)
        found.append(torch.backends.cudnn.benchmark)
    assert found == [False, True]
