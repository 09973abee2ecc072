"""Writes docs/architectures.md from specs, rules and networks: `python docs/architectures_page.py`.

Every model is built and run on the meta device: no weights, no downloads, about two minutes on one core.
"""

import inspect
import json
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import abcore.taps
from abcore.architectures import build_on_meta
from abcore.architectures.torchvision_zoo import torchvision_names
from abcore.describe import describe_model
from abcore.describe.model import record_pass
from abcore.specs import layers
from abcore.specs.architectures import Auto, Ensemble, ModelSpec, ResNetCifar, Timm, Torchvision, WideResNet
from abcore.specs.refusals import Refusal
from abcore.taps import finding, pairing

PAGE = Path(__file__).with_name("architectures.md")

ARCHITECTURES: Sequence[type[BaseModel]] = (
    WideResNet,
    ResNetCifar,
    Torchvision,
    Timm,
    layers.Layers,
    Ensemble,
    Auto,
)
LAYERS: Sequence[type[BaseModel]] = (
    layers.Conv,
    layers.BatchNorm,
    layers.Activation,
    layers.Pool,
    layers.GlobalPool,
    layers.Flatten,
    layers.Linear,
    layers.Dropout,
    layers.DepthwiseSeparable,
    layers.InvertedResidual,
    layers.Residual,
    layers.Repeat,
)
# One of each kind of network in timm; its other models of a kind have the same modules in other numbers.
TIMM_NAMES = (
    "convnextv2_atto",
    "cspdarknet53",
    "deit_tiny_patch16_224",
    "densenet121",
    "dla34",
    "edgenext_small",
    "efficientnetv2_rw_t",
    "fastvit_t8",
    "ghostnet_100",
    "hrnet_w18_small",
    "levit_128s",
    "maxvit_tiny_tf_224",
    "mixer_s32_224",
    "mobilenetv4_conv_small",
    "mobileone_s1",
    "mobilevit_s",
    "nf_resnet50",
    "poolformer_s12",
    "regnety_006",
    "repvgg_a0",
    "res2net50_26w_4s",
    "resnet50d",
    "resnetv2_50",
    "rexnet_100",
    "seresnet50",
    "swin_tiny_patch4_window7_224",
    "vgg11_bn",
    "xception41",
)
EXAMPLES: Sequence[dict[str, Any]] = (
    {"arch": "wide_resnet", "depth": 16, "width": 1},
    {"arch": "wide_resnet", "depth": 16, "width": 2},
    {"arch": "wide_resnet", "depth": 22, "width": 4},
    {"arch": "wide_resnet", "depth": 28, "width": 10},
    {"arch": "resnet_cifar", "depth": 20, "width": 1},
    {"arch": "resnet_cifar", "depth": 32, "width": 4},
)
LEGEND = """
Figures for RGB images, 10 classes at 32 pixels and 1000 at 224. A tap reads `channels@side`. A share before it
(`1/2 of`) means that no activation of that scale is passed by all paths from the image to the logits: the tap is the
one with the largest share of them (rule 4). "none" means that there are no taps to be found; such a network can still
teach and learn by logits. "refused" means that the architecture does not take images of that size.
"""


def page() -> str:
    """The whole page."""
    return "\n".join(
        (
            "# Architectures",
            "",
            "Which networks a teacher and a student may be, and where their activation boundaries are tapped.",
            "This page is made by `python docs/architectures_page.py` from the code that it describes.",
            "",
            *fields_part(),
            *rules_part(),
            "## What works: small-image families",
            LEGEND,
            *table((32,), [(_title(example), example) for example in EXAMPLES]),
            "",
            "## What works: torchvision, every classification model",
            "",
            *table((224, 32), zoo_entries("torchvision", torchvision_names())),
            "",
            "## What works: timm, one model of each kind",
            "",
            *table((224, 32), zoo_entries("timm", TIMM_NAMES)),
            "",
        )
    )


def fields_part() -> Iterable[str]:
    """A table of fields for each architecture, and for each layer of the `layers` one."""
    yield from ("## Fields", "")
    for architecture in ARCHITECTURES:
        yield from _fields(architecture, "arch")
    yield from ("## The layers of `layers`", "", *_text(layers), "")
    for layer in LAYERS:
        yield from _fields(layer, "type")


def _fields(model: type[BaseModel], tag: str) -> Iterable[str]:
    schema = model.model_json_schema()
    properties = schema.get("properties") or schema["$defs"][model.__name__]["properties"]
    yield from (f"### `{properties[tag]['const']}`", "", *_text(model), "")
    yield from ("| field | values | default | meaning |", "|---|---|---|---|")
    for name, field in model.model_fields.items():
        default = "required" if field.is_required() else f"`{json.dumps(field.default)}`"
        yield f"| `{name}` | {_values(properties[name])} | {default} | {field.description or ''} |"
    yield ""


def rules_part() -> Iterable[str]:
    """The rules that the code documents, in its own words."""
    yield from ("## Names of taps", "", *_text(abcore.taps), "")
    yield from ("## Which taps are found", "", *_text(finding), "")
    yield from ("## Which taps are paired", "", *_text(pairing), "")


def table(sides: Sequence[int], entries: Sequence[tuple[str, dict[str, Any]]]) -> Iterable[str]:
    """One row a model; taps at each of the image sides, figures at the first."""
    at = " | ".join(f"taps at {side} px" for side in sides)
    yield f"| model | parameters | MACs at {sides[0]} px | {at} |"
    yield "|---|--:|--:|" + "---|" * len(sides)
    for title, architecture in entries:
        yield row(title, architecture, sides)


def zoo_entries(zoo: str, names: Iterable[str]) -> list[tuple[str, dict[str, Any]]]:
    """Titles and architectures of a zoo's models."""
    return [(f"`{name}`", {"arch": zoo, "name": name}) for name in names]


def row(title: str, architecture: dict[str, Any], sides: Sequence[int]) -> str:
    """What there is to say of one model."""
    specs = [_spec(architecture, side) for side in sides]
    try:
        description = describe_model(specs[0])
        figures = f"{description.num_parameters:,} | {description.num_macs / 1e9:.3f} G"
    except Refusal:
        figures = " | "
    return f"| {title} | {figures} | " + " | ".join(_taps(spec) for spec in specs) + " |"


def _spec(architecture: dict[str, Any], side: int) -> ModelSpec:
    image = {"channels": 3, "height": side, "width": side}
    classes = 10 if side <= 64 else 1000
    return ModelSpec.model_validate({"architecture": architecture, "image": image, "num_classes": classes})


def _taps(spec: ModelSpec) -> str:
    try:
        recording = record_pass(build_on_meta(spec), spec)
    except Refusal:
        return "refused"
    shares = {
        recording.name(site): Fraction(
            recording.graph.paths_through(value.node, value.output), recording.graph.num_paths
        )
        for site, value in recording.reads.items()
    }
    parts = []
    for tap in finding.find_in(recording):
        share = shares[tap.name].limit_denominator(20)
        parts.append(("" if share == 1 else f"{share} of ") + f"{tap.channels}@{tap.height}")
    return ", ".join(parts) or "none"


def _values(schema: dict[str, Any]) -> str:
    """The values that a field may have, from its JSON schema."""
    if "anyOf" in schema:
        return " or ".join(_values(option) for option in schema["anyOf"])
    if "$ref" in schema:
        return "a layer"
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema["type"] == "array":
        return "list of layers"
    limits = [
        f"{sign} {schema[key]}"
        for key, sign in (
            ("minimum", "≥"),
            ("exclusiveMinimum", ">"),
            ("maximum", "≤"),
            ("exclusiveMaximum", "<"),
        )
        if key in schema
    ]
    return " ".join((str(schema["type"]), ", ".join(limits))).strip()


def _title(example: dict[str, Any]) -> str:
    return (
        "`" + ", ".join(f"{key} {value}" if key != "arch" else value for key, value in example.items()) + "`"
    )


def _text(documented: object) -> list[str]:
    text = inspect.getdoc(documented)
    assert text is not None, documented
    return text.splitlines()


if __name__ == "__main__":
    PAGE.write_text(page())
