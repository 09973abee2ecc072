"""Which pre-activations are tapped when nobody says so.

The rule, for any network:

1. Candidates are the feature maps that activations read, unless they are rectified already.
2. They are grouped by scale: how often the image's resolution was halved, rounded.
3. Of each scale, the candidate that all paths from the image to the logits run through: detached there, no gradient
   would reach the image. Of several, the last. In a ResNet that is the residual sum at a stage's end, in a MobileNetV2
   the expansion at the head of the next stage, in a wide ResNet the batch norm there: the places that the paper taps
   (Heo et al. 2019, section 4). Without this condition, the last activation of a stage would often lie inside a
   residual branch.
4. Where no candidate of a scale has all paths, the one with the largest share of them, if that is at least a quarter;
   of equal ones the widest, and of those the last. Networks whose stages end in a concatenation, or in a residual sum
   that nothing activates (ShuffleNet, GoogLeNet, ConvNeXt, Swin), have only such taps.
5. Where the resolution comes down to 1/16 or less, the stem is left out: taps at more than 1/4 of it.

Maps of a single pixel are not tapped.
"""

import math

from torch import nn

from abcore.specs.architectures import ImageShape
from abcore.specs.reports import TapPoint
from abcore.taps.layout import octave
from abcore.taps.naming import Site
from abcore.taps.recording import Recording, Value, record

_SMALLEST_SHARE = 4
"""At least one path in this many runs through a tap."""


def find_taps(model: nn.Module, image: ImageShape) -> tuple[TapPoint, ...]:
    """Find the tap points of `model` for images of this shape, shallow to deep. The model is left as it is.

    Empty for a network without activated feature maps, such as a vision transformer.
    """
    return find_in(record(model, image))


def tap_candidates(model: nn.Module, image: ImageShape) -> tuple[TapPoint, ...]:
    """All feature maps that an activation of `model` reads, in order of the forward pass: a caller's choice."""
    return candidates_in(record(model, image))


def find_in(recording: Recording) -> tuple[TapPoint, ...]:
    """`find_taps` on a forward pass that is recorded already."""
    scales: dict[int, list[Site]] = {}
    for site, value in _candidates(recording).items():
        assert value.map_shape is not None, site
        if math.prod(value.map_shape[1:]) > 1:
            scales.setdefault(depth(recording, value)[0], []).append(site)
    best = {scale: _best(recording, sites) for scale, sites in scales.items()}
    taps = {scale: site for scale, site in best.items() if site is not None}
    if max(taps, default=0) >= 4:
        taps = {scale: site for scale, site in taps.items() if scale >= 2}
    return tuple(tap_point(recording, taps[scale], recording.reads[taps[scale]]) for scale in sorted(taps))


def candidates_in(recording: Recording) -> tuple[TapPoint, ...]:
    """`tap_candidates` on a forward pass that is recorded already."""
    return tuple(tap_point(recording, site, value) for site, value in _candidates(recording).items())


def depth(recording: Recording, value: Value) -> tuple[int, int]:
    """Sort key of feature maps, shallow to deep: by scale, and at one scale by moment."""
    assert value.map_shape is not None
    return octave(recording.image_size, value.map_shape[1:]), value.moment


def tap_point(recording: Recording, site: Site, value: Value) -> TapPoint:
    """Describe the feature map at `site`."""
    assert value.map_shape is not None, site
    channels, height, width = value.map_shape
    return TapPoint(name=recording.name(site), channels=channels, height=height, width=width)


def _candidates(recording: Recording) -> dict[Site, Value]:
    return {
        site: value
        for site, value in recording.reads.items()
        if value.map_shape is not None
        and value.node is not None  # computed from the image, not from a table of positions
        and not recording.graph.is_rectified(value.node)
    }


def _best(recording: Recording, sites: list[Site]) -> Site | None:
    graph = recording.graph
    num_paths = {
        site: graph.paths_through(recording.reads[site].node, recording.reads[site].output) for site in sites
    }
    most = max(num_paths.values())
    if most == 0 or most * _SMALLEST_SHARE < graph.num_paths:
        return None
    leading = [site for site in sites if num_paths[site] == most]
    if most == graph.num_paths:
        return leading[-1]
    widest = max(_channels(recording, site) for site in leading)
    return [site for site in leading if _channels(recording, site) == widest][-1]


def _channels(recording: Recording, site: Site) -> int:
    map_shape = recording.reads[site].map_shape
    assert map_shape is not None, site
    return map_shape[0]
