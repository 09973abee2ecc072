"""Every classification model of torchvision is tried: its size, its cost, its taps, and what the docs say of it."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

from abcore.architectures import build_model
from abcore.architectures.torchvision_import import import_torchvision
from abcore.architectures.torchvision_zoo import torchvision_names
from abcore.describe import describe_model
from abcore.specs.architectures import ModelSpec
from abcore.specs.refusals import Refusal
from abcore.taps import TapCapture

DOCS = Path(__file__).parents[2] / "docs"
# The cheapest of the kinds that no other test here knows; the others are slow proofs.
QUICK = {
    "alexnet",
    "convnext_tiny",
    "googlenet",
    "resnet18",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "vit_b_32",
}
EVERY_MODEL = [
    pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in torchvision_names()
]


def spec_of(name: str, side: int, classes: int = 10) -> ModelSpec:
    image = {"channels": 3, "height": side, "width": side}
    return ModelSpec.model_validate(
        {"architecture": {"arch": "torchvision", "name": name}, "image": image, "num_classes": classes}
    )


@pytest.fixture(scope="module")
def docs_page() -> ModuleType:
    found = importlib.util.spec_from_file_location("architectures_page", DOCS / "architectures_page.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", EVERY_MODEL)
def test_parameters_and_macs_are_those_that_torchvision_documents(name: str) -> None:
    weights = next(iter(import_torchvision().models.get_model_weights(name)))
    description = describe_model(spec_of(name, weights.transforms.keywords["crop_size"], classes=1000))
    auxiliary = 3_326_696 if name == "inception_v3" else 0  # documented with its auxiliary classifier
    assert description.num_parameters + auxiliary == weights.meta["num_params"]
    assert round(description.num_macs / 1e9, 3) == pytest.approx(weights.meta["_ops"], abs=0.0011)


@pytest.mark.parametrize("name", EVERY_MODEL)
def test_the_docs_say_which_taps_are_found(name: str, docs_page: ModuleType) -> None:
    (entry,) = docs_page.zoo_entries("torchvision", [name])
    assert docs_page.row(*entry, (224, 32)) + "\n" in (DOCS / "architectures.md").read_text(), (
        "run `python docs/architectures_page.py`"
    )


def test_the_docs_name_every_field_and_rule(docs_page: ModuleType) -> None:
    written = (DOCS / "architectures.md").read_text()
    for part in (docs_page.fields_part(), docs_page.rules_part()):
        assert "\n".join(part) in written, "run `python docs/architectures_page.py`"


@pytest.mark.slow
@pytest.mark.parametrize("name", torchvision_names())
def test_what_is_found_can_be_caught_on_a_real_pass(name: str) -> None:
    spec = spec_of(name, side=64)
    if name in ("vit_h_14", "maxvit_t"):  # their patches and windows do not divide 64
        with pytest.raises(Refusal):
            build_model(spec)
        return
    description = describe_model(spec)
    if description.num_parameters > 150_000_000:
        pytest.skip("a network of this size takes minutes on a CPU")
    torch.manual_seed(0)
    model = build_model(spec)
    with TapCapture(model, [tap.name for tap in description.taps]) as capture, torch.no_grad():
        logits = model(torch.randn(2, 3, 64, 64))
    assert logits.shape == (2, 10)
    for tap, preact in zip(description.taps, capture.preacts, strict=True):
        assert preact.shape == (2, tap.channels, tap.height, tap.width)
    assert bool(description.taps) == (not name.startswith("vit_"))
