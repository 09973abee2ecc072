"""Presets are recipes like any other, with the constants that the paper's settings have."""

import importlib.util
from pathlib import Path

import pytest

from abcore.specs.methods import ActivationBoundary, AttentionTransfer
from abcore.specs.presets import PRESETS, start_from
from abcore.specs.recipes import Recipe


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_survives_the_wire(name: str) -> None:
    recipe = PRESETS[name].recipe
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    assert recipe.needs_teacher


def test_the_papers_settings_have_its_constants() -> None:
    cifar, transfer = PRESETS["paper-cifar"].recipe, PRESETS["paper-transfer"].recipe
    assert cifar.method.name == transfer.method.name == "ab"
    assert cifar.method.weight == 0.003
    assert transfer.method.weight == 0.001
    assert cifar.finetune is not None
    assert (cifar.finetune.temperature, cifar.finetune.temperature_squared) == (3, False)
    assert cifar.finetune.cross_entropy_weight == 0
    assert transfer.finetune is not None
    assert (transfer.finetune.kd_weight, transfer.finetune.dtl_weight) == (0, 10)


def test_changes_are_laid_over_a_preset_field_by_field() -> None:
    changed = Recipe.model_validate(start_from("paper-cifar", {"finetune": {"epochs": 5}, "seed": 3}))
    preset = PRESETS["paper-cifar"].recipe
    assert changed.finetune is not None
    assert preset.finetune is not None
    assert changed.finetune.model_copy(update={"epochs": 190}) == preset.finetune
    assert (changed.transfer, changed.method, changed.seed) == (preset.transfer, preset.method, 3)


def test_another_method_takes_nothing_from_the_presets_own() -> None:
    margin = start_from("paper-cifar", {"method": {"margin": 2.0}})
    assert Recipe.model_validate(margin).method == ActivationBoundary(
        weight=0.003, connector="where_needed", margin=2.0
    )
    other = Recipe.model_validate(start_from("paper-cifar", {"method": {"name": "at"}, "transfer": None}))
    assert other.method == AttentionTransfer()


def test_the_page_of_methods_is_what_the_specs_say() -> None:
    docs = Path(__file__).parents[2] / "docs"
    found = importlib.util.spec_from_file_location("methods_page", docs / "methods_page.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    text = module.page()
    assert (docs / "methods.md").read_text() == text, "run `python docs/methods_page.py`"
    assert "|  |\n" not in text, "a field has no description"
