"""Tap points that a caller names: checked against the network, told in its own words what it has instead."""

import difflib
from collections.abc import Sequence

from torch import nn

from abcore.specs.architectures import ImageShape
from abcore.specs.refusals import Refusal
from abcore.specs.reports import TapPoint
from abcore.taps.activations import is_activation
from abcore.taps.finding import candidates_in, depth, find_in, tap_point
from abcore.taps.naming import Site, parse_site
from abcore.taps.recording import Recording, Value, record

_MOST_SUGGESTIONS = 12


def resolve_taps(
    model: nn.Module, image: ImageShape, names: Sequence[str], where: str = "taps"
) -> tuple[TapPoint, ...]:
    """Look up taps by name, in the scheme of `abcore.taps`. The model is left as it is.

    Args:
        model: the network, with any weights.
        image: shape of one image.
        names: shallow to deep. One may be named again, to be paired with several of the other network.
        where: what to call the list of names in a refusal; the number of the name is added.

    Returns:
        The taps in the order of `names`, under their canonical names.

    Raises:
        Refusal: a name fits no module or call (`taps.not_found`), leaves open which call it means
            (`taps.ambiguous`), is no feature map (`taps.not_a_map`), lies after an activation
            (`taps.post_activation`), or is shallower than its predecessor (`taps.order`).
    """
    return resolve_in(record(model, image), model, names, where)


def resolve_in(
    recording: Recording, model: nn.Module, names: Sequence[str], where: str
) -> tuple[TapPoint, ...]:
    """`resolve_taps` on a forward pass that is recorded already."""
    resolver = _Resolver(recording, model)
    found = [resolver.resolve(name, f"{where}[{index}]") for index, name in enumerate(names)]
    for index in range(1, len(found)):
        if depth(recording, found[index][1]) < depth(recording, found[index - 1][1]):
            raise Refusal(
                "taps.order",
                f"{names[index]!r} comes before {names[index - 1]!r}, by scale or in the forward pass",
                where=f"{where}[{index}]",
                value=names[index],
                hint="List taps from shallow to deep: the deepest weighs most in the loss.",
            )
    return tuple(tap_point(recording, site, value) for site, value in found)


class _Resolver:
    """Finds what a name means in one recorded forward pass."""

    def __init__(self, recording: Recording, model: nn.Module) -> None:
        self._recording = recording
        self._paths = {path: is_activation(module) for path, module in model.named_modules()}
        self._readers = {value.identity: site for site, value in reversed(recording.reads.items())}

    def resolve(self, name: str, where: str) -> tuple[Site, Value]:
        """Return the site of a name and what it has there."""
        site, value = self._look_up(name, where)
        reader = self._readers.get(value.identity)
        if reader is not None:
            site, value = reader, self._recording.reads[reader]
        if value.map_shape is None:
            raise Refusal(
                "taps.not_a_map",
                f"{name!r} is no feature map of the image: its shape for one image is {value.shape[1:]}",
                where=where,
                value=name,
                allowed=self._suggestions(name),
                hint="Take a tap of shape channels x height x width. Found automatically: "
                + self._automatic(),
            )
        self._refuse_rectified(name, value, where)
        return site, value

    def _look_up(self, name: str, where: str) -> tuple[Site, Value]:
        try:
            site, names_call = parse_site(name)
        except ValueError as error:
            raise Refusal("taps.not_found", str(error), where=where, value=name) from error
        values = self._recording.reads
        if site.function is None and not self._paths.get(site.path, True):
            values = self._recording.results
        calls = [other for other in values if other.base == site.base]
        if not calls:
            raise Refusal(
                "taps.not_found",
                f"the network has no tap point {name!r}: {self._absence(site)}",
                where=where,
                value=name,
                allowed=self._suggestions(name),
                hint="`allowed` lists near names. Found automatically: " + self._automatic(),
            )
        if (len(calls) > 1 and not names_call) or site not in calls:
            raise Refusal(
                "taps.ambiguous" if site in calls else "taps.not_found",
                f"{site.base!r} is called {len(calls)} times in a forward pass: say which call is meant",
                where=where,
                value=name,
                allowed=tuple(call.name(len(calls)) for call in calls),
                hint="Calls count from 0.",
            )
        return site, values[site]

    def _absence(self, site: Site) -> str:
        if site.path not in self._paths:
            return f"there is no module {site.path!r}"
        if site.function is not None:
            return f"module {site.path!r} calls no {site.function} in its forward method"
        return "that module is not called in a forward pass, or does not return a single tensor"

    def _refuse_rectified(self, name: str, value: Value, where: str) -> None:
        if not self._recording.graph.is_rectified(value.node):
            return
        activation = self._recording.activated.get(value.identity)
        raise Refusal(
            "taps.post_activation",
            f"{name!r} lies after a rectifying activation: it is never negative, so no boundary lies at its zero",
            where=where,
            value=name,
            allowed=self._suggestions(name),
            hint=(
                f"Its pre-activation is {self._recording.name(activation)!r}."
                if activation is not None
                else "Take what an activation reads. Found automatically: " + self._automatic()
            ),
        )

    def _suggestions(self, name: str) -> tuple[str, ...]:
        names = [tap.name for tap in candidates_in(self._recording)]
        near = difflib.get_close_matches(name, names, n=_MOST_SUGGESTIONS, cutoff=0.6)
        return tuple(near) or tuple(tap.name for tap in find_in(self._recording))

    def _automatic(self) -> str:
        return ", ".join(tap.name for tap in find_in(self._recording)) or "none"
