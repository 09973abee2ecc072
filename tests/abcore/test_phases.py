"""The phases: which losses they name, what of the teacher they use, and what they leave alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch.nn import functional

from abcore.caching import choose_answers
from abcore.data.batches import Batch
from abcore.methods.base import ConnectedMethod, tap_factors
from abcore.phases import FinetunePhase, Phase, TransferPhase, build_phases
from abcore.setup import Setup, prepare
from abcore.specs.architectures import ImageShape, ModelSpec, WideResNet
from abcore.specs.recipes import Finetune, Recipe
from abcore.specs.reports import TapPair
from abcore.taps import TapCapture, find_taps, pair_taps
from abcore.teachers import state_digest

MakeBench = Callable[..., Any]


def wide_resnet(depth: int, width: int, size: int) -> ModelSpec:
    return ModelSpec(
        architecture=WideResNet(arch="wide_resnet", depth=depth, width=width),
        image=ImageShape(channels=3, height=size, width=size),
        num_classes=10,
    )


def pairs_of(teacher: ModelSpec, student: ModelSpec) -> tuple[TapPair, ...]:
    from abcore.architectures import build_model

    taps = [find_taps(build_model(spec), spec.image) for spec in (student, teacher)]
    return pair_taps(*taps)


def setup_of(bench: Any) -> Setup:
    return prepare(bench.run, bench.workspace, torch.device("cpu"), lambda: False)


def phase_of(setup: Setup, kind: type[Phase]) -> Phase:
    return next(phase for phase in build_phases(setup, choose_answers(setup)) if isinstance(phase, kind))


def first_batch(setup: Setup) -> Batch:
    assert setup.run.recipe.finetune is not None
    return next(setup.training_batches(setup.run.recipe.finetune, 0, 0))


def test_default_factors_are_the_papers_in_the_papers_setting() -> None:
    pairs = pairs_of(wide_resnet(22, 4, 32), wide_resnet(16, 2, 32))
    assert [pair.teacher.neurons for pair in pairs] == [65_536, 32_768, 16_384]
    normalised = tap_factors(None, None, pairs)
    explicit = tap_factors(3 / 1000, None, pairs)
    assert normalised == explicit == (0.003 / 4, 0.003 / 2, 0.003)


def test_the_default_share_of_a_tap_depends_on_neither_resolution_nor_width() -> None:
    shares = set()
    for width, size in ((1, 8), (4, 32), (2, 96)):
        pairs = pairs_of(wide_resnet(10, width, size), wide_resnet(10, 1, size))
        factors = tap_factors(None, None, pairs)
        shares |= {round(f * pair.teacher.neurons, 6) for f, pair in zip(factors, pairs, strict=True)}
    assert shares == {49.152}


def test_explicit_tap_weights_multiply_either_weight() -> None:
    pairs = pairs_of(wide_resnet(10, 1, 8), wide_resnet(10, 1, 8))
    weights = (1.0, 2.0, 3.0)
    assert tap_factors(0.5, weights, pairs) == (0.5, 1.0, 1.5)
    default = tap_factors(None, None, pairs)
    doubled = tap_factors(None, weights, pairs)
    assert [b / a for a, b in zip(default, doubled, strict=True)] == pytest.approx(weights)


def test_transfer_losses_are_the_papers_on_the_pre_activations(make_bench: MakeBench) -> None:
    setup = setup_of(make_bench())
    assert setup.teacher is not None
    assert isinstance(setup.method, ConnectedMethod)
    phase = phase_of(setup, TransferPhase)
    batch = first_batch(setup)
    images = batch.images
    with phase.open():
        losses = phase.losses(phase.look(batch))
    with (
        TapCapture(setup.student, [p.student.name for p in setup.pairs]) as student,
        TapCapture(setup.teacher.model, [p.teacher.name for p in setup.pairs]) as teacher,
    ):
        setup.student(images)
        setup.teacher.model(images)
        for pair, connector, s, t in zip(
            setup.pairs, setup.method.connectors, student.preacts, teacher.preacts, strict=True
        ):
            x = connector(s, t.shape[2:])
            terms = torch.where(t > 0, (1 - x).clamp(min=0) ** 2, (1 + x).clamp(min=0) ** 2)
            expected = 0.003 * 16_384 / pair.teacher.neurons * terms.sum() / len(images)
            assert torch.allclose(losses[f"ab/{pair.teacher.name}"], expected, rtol=1e-5)
    assert len(losses) == 3


@pytest.mark.parametrize("bn_mode", ["eval", "train"])
def test_a_teacher_is_the_same_to_the_bit_after_both_phases(
    make_bench: MakeBench, recipe: Recipe, bn_mode: str
) -> None:
    recipe = Recipe.model_validate({**recipe.model_dump(), "teacher_bn": bn_mode})
    setup = setup_of(make_bench(recipe=recipe))
    assert setup.teacher is not None
    before = state_digest(setup.teacher.model)
    for phase in build_phases(setup, choose_answers(setup)):
        with phase.open():
            for batch in setup.training_batches(phase.spec, 0, 0):
                torch.stack(list(phase.losses(phase.look(batch)).values())).sum().backward()
            phase.evaluate()
    assert state_digest(setup.teacher.model) == before
    assert all(parameter.grad is None for parameter in setup.teacher.model.parameters())
    setup.teacher.check_unchanged()


def test_a_training_mode_teacher_has_other_boundaries(make_bench: MakeBench, recipe: Recipe) -> None:
    boundaries = {}
    for bn_mode in ("eval", "train"):
        changed = Recipe.model_validate({**recipe.model_dump(), "teacher_bn": bn_mode})
        setup = setup_of(make_bench(bn_mode, recipe=changed))
        assert setup.teacher is not None
        images = first_batch(setup).images
        with setup.teacher as teacher:
            boundaries[bn_mode] = teacher.preacts(images).boundaries
        model = setup.teacher.model.train()  # what the paper's CIFAR code does, statistics and all
        with TapCapture(model, [pair.teacher.name for pair in setup.pairs]) as capture:
            in_training = [preact > 0 for preact in capture.until_last_tap(images)]
    for evaluated, trained, expected in zip(*boundaries.values(), in_training, strict=True):
        assert torch.equal(trained, expected)
        assert not torch.equal(trained, evaluated)


@pytest.mark.parametrize(("ce", "kd"), [(1.0, 0.0), (0.0, 2.0), (0.25, 0.5)])
def test_finetune_weighs_labels_and_teacher(
    make_bench: MakeBench, recipe: Recipe, ce: float, kd: float
) -> None:
    spec = Finetune(epochs=1, batch_size=40, cross_entropy_weight=ce, kd_weight=kd, temperature=4.0)
    setup = setup_of(make_bench(recipe=Recipe.model_validate({**recipe.model_dump(), "finetune": spec})))
    assert setup.teacher is not None
    phase = phase_of(setup, FinetunePhase)
    batch = first_batch(setup)
    images, labels = batch.images, batch.labels
    with phase.open():
        losses = phase.losses(phase.look(batch))
        logits = setup.student(images)
    soft = functional.softmax(setup.teacher.model(images) / 4, dim=1)
    divergence = (soft * (soft.log() - functional.log_softmax(logits / 4, dim=1))).sum(1).mean()
    expected = {
        "cross_entropy": ce * functional.cross_entropy(logits, labels),
        "kd": kd * 16 * divergence,
    }
    assert set(losses) == {name for name, weight in (("cross_entropy", ce), ("kd", kd)) if weight}
    for name, loss in losses.items():
        assert torch.allclose(loss, expected[name], rtol=1e-4)


def test_a_named_pair_of_taps_is_the_one_that_is_trained(make_bench: MakeBench, recipe: Recipe) -> None:
    taps = {"student": ["block3.layer.0.bn1"], "teacher": ["bn1"]}
    setup = setup_of(make_bench(recipe=Recipe.model_validate({**recipe.model_dump(), "taps": taps})))
    (pair,) = setup.pairs
    assert (pair.student.height, pair.teacher.height) == (4, 2)  # the connector has to resize
    phase = phase_of(setup, TransferPhase)
    with phase.open():
        losses = phase.losses(phase.look(first_batch(setup)))
    assert list(losses) == ["ab/relu"]


def test_a_phase_trains_after_it_evaluates_and_takes_its_hooks_off(make_bench: MakeBench) -> None:
    setup = setup_of(make_bench())
    phase = phase_of(setup, TransferPhase)
    with phase.open():
        phase.evaluate()
        assert all(module.training for module in setup.student.modules())
    hooks = [
        module for module in setup.student.modules() if module._forward_pre_hooks or module._forward_hooks
    ]
    assert not hooks


@pytest.mark.parametrize("name", ["auto", "cpu"])
def test_a_device_is_chosen_by_name(monkeypatch: pytest.MonkeyPatch, name: Literal["auto", "cpu"]) -> None:
    from abcore.devices import choose_device, describe_device

    monkeypatch.setenv("ABDISTILL_DEVICE", name)
    assert describe_device(choose_device()).startswith(choose_device().type)


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from abcore.devices import choose_device
    from abcore.specs.refusals import Refusal

    monkeypatch.setenv("ABDISTILL_DEVICE", "cuda:99")
    with pytest.raises(Refusal) as refusal:
        choose_device()
    assert "cpu" in refusal.value.problem.allowed
