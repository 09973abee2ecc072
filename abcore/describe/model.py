"""Parameters, multiply-accumulates, size and taps of a network, from one look at it on the meta device."""

from functools import lru_cache

from torch import nn

from abcore.architectures import build_on_meta, resolve_auto
from abcore.architectures.counting import count_bytes, count_parameters, macs_of
from abcore.architectures.meta import passing
from abcore.describe.memory import step_memory
from abcore.specs.architectures import Ensemble, ModelSpec
from abcore.specs.refusals import Refusal
from abcore.specs.reports import ModelDescription, TapPoint
from abcore.taps.finding import find_in
from abcore.taps.recording import Recording, record

MOST_MACS = 2 * 10**12
"""Multiply-accumulates that one image may take: twice those of the largest model in torchvision's zoo."""
MOST_ACTIVATION_BYTES = 64 * 2**30
"""What a training step may keep of one image: six times what the hungriest of that zoo does, at 1024 pixels a side."""


@lru_cache(maxsize=256)
def describe_model(spec: ModelSpec) -> ModelDescription:
    """Describe the network of `spec`. Of an `auto` architecture the answer's `spec` says which network it is.

    Raises:
        Refusal: it cannot be built, is too large, or cannot take images of this shape. `where` is a path into `spec`.
    """
    spec = resolve_auto(spec)
    model = build_on_meta(spec)
    recording, num_macs = macs_of(lambda: record_pass(model, spec))
    if num_macs > MOST_MACS:
        raise Refusal(
            "architecture.too_large",
            f"one image would take {num_macs:,} multiply-accumulates; at most {MOST_MACS:,} are allowed",
            where="architecture",
            value=num_macs,
            allowed=(f"<= {MOST_MACS} multiply-accumulates",),
            hint="Use smaller images, or make the network narrower or less deep.",
        )
    with passing(spec.image):
        memory = step_memory(model, spec.image)
    if memory.saved_bytes > MOST_ACTIVATION_BYTES:
        raise Refusal(
            "architecture.too_large",
            f"a training step would keep {memory.saved_bytes:,} bytes of one image; at most {MOST_ACTIVATION_BYTES:,} "
            "are allowed",
            where="architecture",
            value=memory.saved_bytes,
            allowed=(f"<= {MOST_ACTIVATION_BYTES} bytes",),
            hint="Use smaller images, fewer feature maps, or reduce the resolution earlier.",
        )
    return ModelDescription(
        spec=spec,
        num_parameters=count_parameters(model),
        num_macs=num_macs,
        size_bytes=count_bytes(model),
        activation_bytes=memory.saved_bytes,
        largest_map_bytes=memory.largest_bytes,
        taps=_taps(spec, recording),
    )


def _taps(spec: ModelSpec, recording: Recording) -> tuple[TapPoint, ...]:
    """The network's taps; of an ensemble those of its first member, because no map lies on the paths of all."""
    if not isinstance(spec.architecture, Ensemble):
        return find_in(recording)
    first = describe_model(spec.model_copy(update={"architecture": spec.architecture.members[0]}))
    return tuple(tap.model_copy(update={"name": f"members.0.{tap.name}"}) for tap in first.taps)


def record_pass(model: nn.Module, spec: ModelSpec) -> Recording:
    """Record a forward pass of the network of `spec`, just built.

    Raises:
        Refusal: the network cannot take images of this shape (`architecture.image`).
    """
    with passing(spec.image):
        return record(model, spec.image)
