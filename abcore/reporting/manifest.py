"""`manifest.json`: what is needed to run a job again, bit for bit."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import torch

from abcore.devices import describe_device, versions
from abcore.outcome import Trained
from abcore.specs.manifests import Environment, Manifest
from abcore.specs.recipes import Recipe
from abcore.specs.reports import OutputFile
from abcore.specs.runs import DistillRun


def make_manifest(trained: Trained, inputs: Path, files: Iterable[OutputFile]) -> Manifest:
    """Describe a run by what its bits depend on. Holds no time: run again, it is the same.

    Args:
        trained: the run.
        inputs: its folder of inputs.
        files: those whose bits are promised.
    """
    device = trained.setup.device
    return Manifest(
        run=_settled(trained),
        inputs={path.stem: _sha256_of(path) for path in sorted(inputs.glob("*.safetensors"))},
        environment=Environment(
            device=describe_device(device), cpu=torch.backends.cpu.get_cpu_capability(), versions=versions()
        ),
        outputs={file.name: file.sha256 for file in files},
    )


def _settled(trained: Trained) -> DistillRun:
    """The run, with what was left open as it was decided."""
    run, computation = trained.setup.run, trained.setup.computation
    recipe = run.recipe.model_dump(mode="json")
    recipe |= {"precision": computation.precision, "memory_format": computation.memory_format}
    if trained.setup.teacher is not None:
        recipe["teacher_source"] = trained.choice.source
    if run.recipe.augmentation.moves:
        recipe["augmentation"]["views"] = run.recipe.num_views or "fresh"
    changes = {"recipe": Recipe.model_validate(recipe), "threads": torch.get_num_threads()}
    return run.model_copy(update=changes)


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
