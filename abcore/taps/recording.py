"""One forward pass on the meta device, written down: who activates what, who returns what, and how it all connects."""

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.overrides import TorchFunctionMode

from abcore.architectures.meta import meta_twin
from abcore.specs.architectures import ImageShape
from abcore.taps.activations import activation_function_name, is_activation
from abcore.taps.graph import FlowGraph
from abcore.taps.layout import as_feature_map
from abcore.taps.naming import Site


@dataclass(frozen=True)
class Value:
    """A tensor as it was at one moment: later in-place operations change the tensor, not this."""

    moment: int  # moments count up through the forward pass
    shape: tuple[int, ...]
    map_shape: tuple[int, int, int] | None  # channels, height, width; None where it is no feature map
    identity: tuple[int, int]  # equal for two moments between which the tensor was not written to
    node: Node | None
    output: int


@dataclass(frozen=True)
class Recording:
    """What happened in one forward pass of one image, in evaluation mode.

    Attributes:
        image_size: height and width, in pixels.
        reads: what each activation call read, in order.
        results: what each other module call returned, in order of returning, where it was a single tensor.
        activated: what each activation call returned: identity of the result -> site of the activation.
        graph: paths from the image to the logits.
    """

    image_size: tuple[int, int]
    reads: dict[Site, Value]
    results: dict[Site, Value]
    activated: dict[tuple[int, int], Site]
    graph: FlowGraph

    def num_calls(self, site: Site) -> int:
        """How often the site's module or function was called."""
        calls = self.reads if site.first in self.reads else self.results
        return sum(other.base == site.base for other in calls)

    def name(self, site: Site) -> str:
        """The name that stands for this site and no other."""
        return site.name(self.num_calls(site))


def record(model: nn.Module, image: ImageShape) -> Recording:
    """Write down one forward pass of `model`, which is left exactly as it is: a copy on the meta device runs.

    Raises:
        Exception: whatever the model raises for an image that it cannot take.
    """
    twin = meta_twin(model).eval()
    recorder = _Recorder((image.height, image.width))
    leaf = torch.zeros(1, image.channels, image.height, image.width, device="meta", requires_grad=True)
    with recorder, ExitStack() as hooks:
        for path, module in twin.named_modules():
            enter, leave = recorder.hooks(path, is_activation(module))
            hooks.callback(module.register_forward_pre_hook(enter).remove)
            hooks.callback(module.register_forward_hook(leave).remove)
        logits = twin(leaf.clone())  # a copy: some models normalise their input in place
    return Recording(
        recorder.image_size,
        recorder.reads,
        recorder.results,
        recorder.activated,
        FlowGraph.trace(logits, leaf),
    )


class _Recorder(TorchFunctionMode):
    """Hooks for modules, and a mode that sees functional activations: together they gather a `Recording`."""

    def __init__(self, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.image_size = image_size
        self.reads: dict[Site, Value] = {}
        self.results: dict[Site, Value] = {}
        self.activated: dict[tuple[int, int], Site] = {}
        self._calls: Counter[str] = Counter()
        self._open: list[Site] = []  # modules whose forward is running, innermost last
        self._activation_depth = 0
        self._alive: list[Tensor] = []  # an identity must not be given away again

    def hooks(self, path: str, activates: bool) -> tuple[Callable[..., None], Callable[..., None]]:
        """What to do when the module at `path` is entered and left."""

        def enter(_: nn.Module, arguments: tuple[Any, ...]) -> None:
            site = self._next(Site(path))
            self._open.append(site)
            if activates:
                self._activation_depth += 1
                self.reads[site] = self._value(arguments[0])

        def leave(_: nn.Module, __: tuple[Any, ...], result: Any) -> None:
            site = self._open.pop()
            self._activation_depth -= activates
            if not isinstance(result, Tensor):
                return
            value = self._value(result)
            if activates:
                self.activated[value.identity] = site
            else:
                self.results[site] = value

        return enter, leave

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        keywords = kwargs or {}
        name = activation_function_name(func)
        if name is None or self._activation_depth:
            return func(*args, **keywords)
        site = self._next(Site(self._open[-1].path, name))
        self.reads[site] = self._value(args[0] if args else keywords["input"])
        result = func(*args, **keywords)
        self.activated[self._value(result).identity] = site
        return result

    def _next(self, site: Site) -> Site:
        call = self._calls[site.base]
        self._calls[site.base] += 1
        return Site(site.path, site.function, call)

    def _value(self, tensor: Tensor) -> Value:
        self._alive.append(tensor)
        feature_map = as_feature_map(tensor, self.image_size, batch_size=1)
        return Value(
            moment=len(self._alive),
            shape=tuple(tensor.shape),
            map_shape=None if feature_map is None else tuple(feature_map.shape[1:]),  # type: ignore[arg-type]  # three
            identity=(id(tensor), tensor._version),
            node=tensor.grad_fn,
            output=tensor.output_nr,
        )
