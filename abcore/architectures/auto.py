"""`auto`: the largest version of a family that stays within given limits."""

from bisect import bisect_right
from collections.abc import Callable, Iterable
from functools import cache, lru_cache

from torch import nn

from abcore.architectures.counting import count_bytes, count_macs, count_parameters
from abcore.specs.architectures import Architecture, Auto, ModelSpec, ResNetCifar, Torchvision, WideResNet
from abcore.specs.refusals import Refusal

Build = Callable[[ModelSpec], nn.Module]


def _named(*names: str) -> tuple[Architecture, ...]:
    return tuple(Torchvision(arch="torchvision", name=name) for name in names)


def _scaled(name: str, factors: Iterable[float]) -> tuple[Architecture, ...]:
    return tuple(Torchvision(arch="torchvision", name=name, width_mult=factor) for factor in factors)


# By family, rows of versions that grow from left to right in every measure.
VERSIONS: dict[str, tuple[tuple[Architecture, ...], ...]] = {
    "convnext": (_named("convnext_tiny", "convnext_small", "convnext_base", "convnext_large"),),
    "densenet": (_named("densenet121", "densenet169", "densenet201", "densenet161"),),
    "efficientnet": (_named(*(f"efficientnet_b{index}" for index in range(8))),),
    "mnasnet": (_named("mnasnet0_5", "mnasnet0_75", "mnasnet1_0", "mnasnet1_3"),),
    "mobilenet_v2": (_scaled("mobilenet_v2", (0.1, 0.25, 0.35, 0.5, 0.75, 1.0, 1.3, 1.4, 2.0)),),
    "mobilenet_v3": (
        _scaled("mobilenet_v3_small", (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)),
        _scaled("mobilenet_v3_large", (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)),
    ),
    "regnet_x": (_named(*(f"regnet_x_{size}" for size in ("400mf", "800mf", "1_6gf", "3_2gf", "8gf"))),),
    "regnet_y": (_named(*(f"regnet_y_{size}" for size in ("400mf", "800mf", "1_6gf", "3_2gf", "8gf"))),),
    "resnet": (_named("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),),
    "resnet_cifar": tuple(
        tuple(ResNetCifar(arch="resnet_cifar", depth=depth, width=width) for width in (1, 2, 3, 4, 6, 8))
        for depth in (8, 14, 20, 32, 56)
    ),
    "shufflenet_v2": (_named(*(f"shufflenet_v2_x{size}" for size in ("0_5", "1_0", "1_5", "2_0"))),),
    "vgg_bn": (_named("vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"),),
    "wide_resnet": tuple(
        tuple(WideResNet(arch="wide_resnet", depth=depth, width=width) for width in range(1, 11))
        for depth in (10, 16, 22, 28, 34, 40)
    ),
}


@lru_cache(maxsize=256)
def choose(spec: ModelSpec, build: Build) -> ModelSpec:
    """Replace the `Auto` architecture of `spec` by the version that comes closest to a limit and exceeds none.

    Args:
        spec: with an `Auto` architecture.
        build: builds a network of a spec, on the meta device.

    Raises:
        Refusal: even the smallest version exceeds a limit (`architecture.limits`); the message has its figures.
    """
    auto = spec.architecture
    assert isinstance(auto, Auto)

    @cache
    def used(version: Architecture) -> dict[str, tuple[int, int]]:
        return _used(auto, spec.model_copy(update={"architecture": version}), build)

    def share(version: Architecture) -> float:
        return max(measured / limit for measured, limit in used(version).values())

    fitting: list[Architecture] = []
    for row in VERSIONS[auto.family]:
        count = bisect_right(row, 1.0, key=share)  # rows grow, so not every version need be built
        fitting.extend(row[count - 1 : count])
    if not fitting:
        nearest = min((row[0] for row in VERSIONS[auto.family]), key=share)
        raise Refusal(
            "architecture.limits",
            f"no version of {auto.family} stays within the limits; the nearest is "
            + _describe(nearest, used(nearest)),
            where="architecture",
            value=auto.model_dump(exclude_none=True),
            allowed=tuple(f">= {measured} {unit}" for unit, (measured, _) in used(nearest).items()),
            hint="Raise the limit, or take another family.",
        )
    return spec.model_copy(update={"architecture": max(fitting, key=share)})


def _used(auto: Auto, candidate: ModelSpec, build: Build) -> dict[str, tuple[int, int]]:
    """What a version takes of each limit that is given: measured, limit."""
    model = build(candidate)
    used: dict[str, tuple[int, int]] = {}
    if auto.max_params is not None:
        used["parameters"] = count_parameters(model), auto.max_params
    if auto.max_size_bytes is not None:
        used["bytes"] = count_bytes(model), auto.max_size_bytes
    if auto.max_macs is not None:
        used["multiply-accumulates"] = count_macs(model, candidate.image), auto.max_macs
    return used


def _describe(version: Architecture, used: dict[str, tuple[int, int]]) -> str:
    fields = ", ".join(f"{key} {value}" for key, value in version.model_dump(exclude_defaults=True).items())
    figures = ", ".join(f"{measured:,} {unit} of {limit:,}" for unit, (measured, limit) in used.items())
    return f"{fields} ({figures})"
