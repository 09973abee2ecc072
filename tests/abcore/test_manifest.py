"""A manifest alone says all that the bits of a student depend on."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from abcore.specs.manifests import Manifest
from abcore.specs.recipes import Recipe

MakeBench = Callable[..., Any]


def manifest_of(bench: Any) -> Manifest:
    return Manifest.model_validate_json((bench.workspace / "outputs" / "manifest.json").read_bytes())


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("source", ["auto", "online"])
def test_a_run_from_the_manifest_has_the_same_bits(
    make_bench: MakeBench, recipe: Recipe, source: str
) -> None:
    recipe = Recipe.model_validate(recipe.model_dump() | {"teacher_source": source, "seed": 5})
    first = make_bench("first", recipe=recipe)
    first.distill()
    manifest = manifest_of(first)
    again = make_bench("again", **dict(manifest.run))
    torch.set_num_threads(2)  # as on another machine
    again.distill()
    assert manifest.outputs == {
        "student.safetensors": sha256(again.workspace / "outputs" / "student.safetensors")
    }
    assert manifest_of(again) == manifest
    for name, expected in manifest.inputs.items():
        assert sha256(first.workspace / "inputs" / f"{name}.safetensors") == expected
    assert set(manifest.inputs) == {"teacher", "dataset"}


def test_it_leaves_nothing_open(make_bench: MakeBench, recipe: Recipe) -> None:
    bench = make_bench(recipe=recipe)
    report = bench.distill().report
    run = manifest_of(bench).run
    assert (run.recipe.precision, run.recipe.memory_format) == (
        report.computation.precision,
        report.computation.memory_format,
    )
    assert (run.recipe.teacher_source, run.recipe.augmentation.views, run.threads) == ("cached", 8, 1)


def test_a_worker_without_room_for_the_cache_shows_the_same_views_when_run_again_with_room(
    make_bench: MakeBench, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ABDISTILL_TEACHER_CACHE_BYTES", "0")
    first = make_bench("first", recipe=recipe)
    first.distill()
    monkeypatch.delenv("ABDISTILL_TEACHER_CACHE_BYTES")
    manifest = manifest_of(first)
    assert (manifest.run.recipe.teacher_source, manifest.run.recipe.augmentation.views) == ("online", 8)
    again = make_bench("again", **dict(manifest.run))
    shutil.rmtree(first.workspace / "outputs")
    again.distill()
    assert manifest_of(again) == manifest
