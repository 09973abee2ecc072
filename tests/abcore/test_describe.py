"""Networks and distillations are described from specs alone, exactly, and what cannot work is refused."""

import json
import subprocess
import sys
from typing import Any

import pytest
import torch

from abcore.architectures import build_model
from abcore.connectors import Connector
from abcore.describe import describe_model, plan_distillation
from abcore.specs.architectures import ModelSpec
from abcore.specs.recipes import Recipe
from abcore.specs.refusals import Refusal


def model(architecture: dict[str, Any], side: int = 32, channels: int = 3, classes: int = 10) -> ModelSpec:
    image = {"channels": channels, "height": side, "width": side}
    return ModelSpec.model_validate({"architecture": architecture, "image": image, "num_classes": classes})


def wide_resnet(depth: int, width: int, **others: int) -> ModelSpec:
    return model({"arch": "wide_resnet", "depth": depth, "width": width}, **others)


def zoo(name: str, side: int = 224, classes: int = 1000) -> ModelSpec:
    return model({"arch": "torchvision", "name": name}, side, classes=classes)


def recipe(**fields: Any) -> Recipe:
    return Recipe.model_validate(fields)


@pytest.mark.parametrize(
    ("name", "gigamacs"),
    [("resnet18", 1.814), ("resnet50", 4.089), ("mobilenet_v2", 0.301), ("vit_b_16", 17.564)],
)
def test_macs_are_the_published_ones(name: str, gigamacs: float) -> None:
    assert round(describe_model(zoo(name)).num_macs / 1e9, 3) == gigamacs


def test_macs_of_a_network_counted_by_hand() -> None:
    # WRN-10-1 on 8x8: one block a group; every convolution's weights times its output's pixels, and the classifier.
    macs = 3 * 16 * 9 * 64 + 2 * 16 * 16 * 9 * 64
    macs += (16 * 32 * 9 + 32 * 32 * 9 + 16 * 32) * 16
    macs += (32 * 64 * 9 + 64 * 64 * 9 + 32 * 64) * 4
    assert describe_model(wide_resnet(10, 1, side=8)).num_macs == macs + 64 * 10


def test_activations_are_what_autograd_keeps_counted_by_hand() -> None:
    # Conv 3x3 to 4 maps, batch norm, relu, pooled to one pixel, linear: images, its output, the relu of it, the means.
    layers = [{"type": "conv", "out_channels": 4}, {"type": "batch_norm"}, {"type": "activation"}]
    described = describe_model(model({"arch": "layers", "layers": layers}, side=8))
    floats = 3 * 64 + 4 * 64 + 4 * 64 + 4
    per_batch = 2 * 4  # the batch norm keeps mean and deviation of each map, of the whole batch
    assert described.activation_bytes == 4 * floats + 4 * per_batch // 2
    assert described.largest_map_bytes == 4 * 4 * 64


def test_size_is_that_of_the_state_dict() -> None:
    spec = wide_resnet(10, 1)
    tensors = build_model(spec).state_dict().values()
    assert describe_model(spec).size_bytes == sum(tensor.nbytes for tensor in tensors)


def test_describing_allocates_no_weights_and_draws_nothing() -> None:
    generator = torch.get_rng_state()
    description = describe_model(zoo("regnet_y_128gf"))  # 2.6 GB of weights
    assert description.num_parameters == 644_812_894
    assert len(description.taps) == 4
    assert torch.equal(torch.get_rng_state(), generator)


@pytest.mark.parametrize("spec", [zoo("vit_h_14", side=980), wide_resnet(100, 20, side=1024)])
def test_absurd_sizes_are_refused(spec: ModelSpec) -> None:
    with pytest.raises(Refusal, match="multiply-accumulates") as refused:
        describe_model(spec)
    assert refused.value.problem.code == "architecture.too_large"


def test_images_that_vanish_on_the_way_are_refused() -> None:
    with pytest.raises(Refusal, match=r"cannot take images of 3x8x8: .*too small") as refused:
        describe_model(zoo("vgg11", side=8))
    assert refused.value.problem.where == "image"


def test_plan_pairs_the_taps_and_counts_the_connectors() -> None:
    plan = plan_distillation(wide_resnet(16, 1), wide_resnet(22, 4), recipe())
    assert [(pair.student.channels, pair.teacher.channels) for pair in plan.pairs] == [
        (16, 64),
        (32, 128),
        (64, 256),
    ]
    for pair in plan.pairs:
        connector = Connector(pair.student.channels, pair.teacher.channels)
        assert pair.connector_parameters == sum(weight.numel() for weight in connector.parameters())
    assert plan.compression == pytest.approx(4_298_970 / 175_066)


def test_plan_takes_the_taps_that_the_recipe_names() -> None:
    taps = {"student": ["bn1"], "teacher": ["layer3.1.relu#1"]}
    plan = plan_distillation(wide_resnet(10, 1), zoo("resnet18", side=32, classes=10), recipe(taps=taps))
    assert [(pair.student.name, pair.teacher.name) for pair in plan.pairs] == [("relu", "layer3.1.relu#1")]


def test_plan_across_families_and_resolutions() -> None:
    plan = plan_distillation(zoo("mobilenet_v2"), zoo("resnet50"), recipe())
    assert [(pair.student.channels, pair.teacher.channels) for pair in plan.pairs] == [
        (144, 256),
        (192, 512),
        (576, 1024),
        (1280, 2048),
    ]


@pytest.mark.parametrize(
    ("student", "teacher", "fields", "code", "where"),
    [
        (
            wide_resnet(10, 1),
            zoo("resnet19", 32, 10),
            {},
            "architecture.unknown",
            "teacher.architecture.name",
        ),
        (
            zoo("resnet19", 32, 10),
            wide_resnet(10, 1),
            {},
            "architecture.unknown",
            "student.architecture.name",
        ),
        (wide_resnet(10, 1), wide_resnet(10, 1, channels=1), {}, "plan.images", "teacher.image"),
        (wide_resnet(10, 1), wide_resnet(10, 1, classes=9), {}, "plan.classes", "recipe.finetune.kd_weight"),
        (wide_resnet(10, 1, side=64), zoo("vit_b_16", 64, 10), {}, "taps.none", "teacher.architecture"),
        (
            wide_resnet(10, 1),
            wide_resnet(16, 1),
            {"taps": {"student": ["bn1"], "teacher": ["bn2"]}},
            "taps.not_found",
            "recipe.taps.teacher[0]",
        ),
        (
            wide_resnet(10, 1),
            wide_resnet(16, 1),
            {"method": {"tap_weights": [1, 1]}},
            "plan.tap_weights",
            "recipe.method.tap_weights",
        ),
        (
            wide_resnet(10, 1),
            wide_resnet(10, 2),
            {"method": {"name": "fsp"}},
            "fsp.channels",
            "recipe.method",
        ),
    ],
)
def test_what_cannot_work_is_refused_with_the_place(
    student: ModelSpec, teacher: ModelSpec, fields: dict[str, Any], code: str, where: str
) -> None:
    with pytest.raises(Refusal) as refused:
        plan_distillation(student, teacher, recipe(**fields))
    assert (refused.value.problem.code, refused.value.problem.where) == (code, where)


def test_taps_that_cannot_be_paired_are_told_with_the_candidates_of_both() -> None:
    with pytest.raises(Refusal) as refused:
        plan_distillation(wide_resnet(10, 1, side=64), zoo("vit_b_16", 64, 10), recipe())
    message = refused.value.problem.message
    assert "Candidates of the student: block2.layer.0.relu1 (16x64x64)" in message
    assert "Candidates of the teacher: none" in message


def test_networks_without_taps_may_still_learn_from_logits() -> None:
    plan = plan_distillation(wide_resnet(10, 1, side=64), zoo("vit_b_16", 64, 10), recipe(transfer=None))
    assert plan.pairs == ()


def test_other_classes_are_fine_where_only_labels_are_learnt() -> None:
    finetune = {"kd_weight": 0, "cross_entropy_weight": 1}
    plan = plan_distillation(wide_resnet(10, 1), wide_resnet(10, 1, classes=9), recipe(finetune=finetune))
    assert len(plan.pairs) == 3


def test_line_server_answers_each_line_and_ends_at_the_end() -> None:
    student = wide_resnet(10, 1).model_dump(mode="json")
    unknown = zoo("resnet17", 32).model_dump(mode="json")
    lines = [
        {"op": "describe", "model": student},
        {"op": "describe", "model": unknown},
        {"op": "train"},
        {"op": "plan", "student": student, "teacher": student, "recipe": {}},
    ]
    served = subprocess.run(
        [sys.executable, "-m", "abcore.describe"],
        input="\n".join(map(json.dumps, lines)) + "\n",
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    ready, described, refused, error, plan = map(json.loads, served.stdout.splitlines())
    assert ready == {"ready": True}
    assert described["ok"] == describe_model(wide_resnet(10, 1)).model_dump(mode="json")
    assert "resnet18" in refused["refused"]["allowed"]
    assert "ValidationError" in error["error"]
    assert plan["ok"]["compression"] == 1.0
    assert len(plan["ok"]["pairs"]) == 3


def test_activations_that_no_machine_could_keep_are_refused() -> None:
    """Few parameters and few multiply-accumulates: 400 activations of maps of 64 GB."""
    layers = [{"type": "conv", "out_channels": 16_384, "kernel_size": 1}, *[{"type": "activation"}] * 400]
    spec = ModelSpec.model_validate(
        {
            "architecture": {"arch": "layers", "layers": layers},
            "image": {"channels": 1, "height": 1024, "width": 1024},
            "num_classes": 2,
        }
    )
    with pytest.raises(Refusal, match=r"would keep .* bytes of one image") as refused:
        describe_model(spec)
    assert refused.value.problem.code == "architecture.too_large"
