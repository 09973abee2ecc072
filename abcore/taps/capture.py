"""Catch pre-activations, with their gradients, while a network runs."""

from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from torch import Tensor, nn

from abcore.specs.refusals import Refusal
from abcore.taps.layout import as_feature_map
from abcore.taps.probes import Probe, probe_for


class TapCapture:
    """Catches what lies at a network's taps in every forward pass inside a `with` block.

        with TapCapture(model, names) as capture:
            logits_BK = model(images_BCHW)                  # the whole network
            preacts = capture.preacts
            preacts = capture.until_last_tap(images_BCHW)   # no further than the taps; no logits

    Make one per network and keep it over the steps: the first pass checks what later ones take for granted.

    Where an activation works in place, it is given a copy of what it reads, so that what was caught stays as it was;
    the network computes the same. Hooks are all there is: no function call is watched unless a tap's name asks for
    it, and then only while the module that makes it runs.
    """

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        """Prepare to catch the taps `names`, as `find_taps` or `resolve_taps` name them, in any order.

        Raises:
            Refusal: a name fits no module (`taps.not_found`).
        """
        self._model = model
        self._probes = [probe_for(model, name, self._caught_one) for name in names]
        self._hooks = ExitStack()
        self._images_shape: tuple[int, ...] | None = None
        self._checked = False
        self._stop_early = False

    def __enter__(self) -> Self:
        self._hooks.callback(self._model.register_forward_pre_hook(self._begin).remove)
        for probe in self._probes:
            probe.attach(self._hooks)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hooks.close()

    @property
    def preacts(self) -> list[Tensor]:
        """What lay at the taps in the latest forward pass, in the order of the names, each preact_BCHW.

        Part of the autograd graph if the pass was.

        Raises:
            Refusal: a tap was not reached (`taps.not_reached`), its name stands for several calls
                (`taps.ambiguous`), or it was nowhere negative in the first pass (`taps.post_activation`).
            RuntimeError: no pass was made, or the network wrote into a pre-activation after it had been read.
        """
        if self._images_shape is None:
            raise RuntimeError("no forward pass was made under this TapCapture")
        preacts = [self._preact(probe, self._images_shape) for probe in self._probes]
        if not self._checked:
            for probe, preact_BCHW in zip(self._probes, preacts, strict=True):
                probe.check_call()
                _check_both_sides(probe.name, preact_BCHW)
            self._checked = True
        return preacts

    def until_last_tap(self, images_BCHW: Tensor) -> list[Tensor]:
        """Run the network until all taps are caught; return `preacts`. What would come after is not computed."""
        self._stop_early = True
        try:
            self._model(images_BCHW)
        except _AllCaught:
            pass
        finally:
            self._stop_early = False
        return self.preacts

    def _begin(self, _: nn.Module, arguments: tuple[Any, ...]) -> None:
        self._images_shape = tuple(arguments[0].shape)
        for probe in self._probes:
            probe.begin()

    def _caught_one(self) -> None:
        if self._stop_early and all(probe.caught is not None for probe in self._probes):
            raise _AllCaught

    @staticmethod
    def _preact(probe: Probe, images_shape: tuple[int, ...]) -> Tensor:
        if probe.caught is None:
            raise Refusal(
                "taps.not_reached",
                f"the network's forward pass did not come to tap {probe.name!r}",
                value=probe.name,
            )
        probe.check_unwritten()
        batch_size, _, height, width = images_shape
        preact_BCHW = as_feature_map(probe.caught, (height, width), batch_size)
        if preact_BCHW is None:
            raise Refusal(
                "taps.not_a_map",
                f"tap {probe.name!r} is no feature map of the image: its shape is {tuple(probe.caught.shape)}",
                value=probe.name,
            )
        return preact_BCHW


class _AllCaught(Exception):
    """The rest of the forward pass is not wanted. Never leaves `until_last_tap`."""


def _check_both_sides(name: str, preact_BCHW: Tensor) -> None:
    if preact_BCHW.detach().min().item() >= 0:
        raise Refusal(
            "taps.post_activation",
            f"tap {name!r} is nowhere negative on a batch of real images: it lies after an activation, and has no "
            "boundary at zero",
            value=name,
            hint="Name the activation that comes before it: a tap is what an activation reads.",
        )
