"""One probe catches one tap: how it listens depends on what the tap's name stands for."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from abcore.specs.refusals import Refusal
from abcore.taps.activations import activation_function_name, is_activation, works_in_place
from abcore.taps.naming import Site, parse_site


class Probe(ABC):
    """Catches one tensor of a forward pass. Subclasses say where they listen.

    Attributes:
        name: the tap's name.
        caught: what lay there in this pass, as it came; None before it is reached.
    """

    def __init__(self, name: str, module: nn.Module, on_caught: Callable[[], None]) -> None:
        self.name = name
        self.caught: Tensor | None = None
        self._site, self._names_call = parse_site(name)
        self._module = module
        self._on_caught = on_caught
        self._calls = 0
        self._version: int | None = None

    @abstractmethod
    def attach(self, hooks: ExitStack) -> None:
        """Begin to listen, until `hooks` closes."""

    def begin(self) -> None:
        """Forget the last pass."""
        self.caught = None
        self._calls = 0

    def offer(self, tensor: Tensor, overwritten: bool) -> Tensor:
        """Catch `tensor` if its turn has come. Returns what the network shall go on with."""
        call = self._calls
        self._calls += 1
        if call != self._site.call:
            return tensor
        self.caught = tensor
        # Neither what is compiled nor tensors made in inference mode count versions: there a later write goes unseen.
        counts = not torch.compiler.is_compiling() and not tensor.is_inference()
        self._version = tensor._version if counts else None
        self._on_caught()
        return tensor.clone() if overwritten else tensor

    def check_unwritten(self) -> None:
        """Raise RuntimeError unless the caught tensor still is what the tap saw."""
        if self._version is not None and self.caught is not None and self.caught._version != self._version:
            raise RuntimeError(f"the network wrote into the tensor at tap {self.name!r} after it was caught")

    def check_call(self) -> None:
        """Refuse a name that does not say which of several calls it means."""
        if self._calls > 1 and not self._names_call:
            raise Refusal(
                "taps.ambiguous",
                f"{self.name!r} is called {self._calls} times in a forward pass: say which call is meant",
                value=self.name,
                allowed=tuple(f"{self.name}#{call}" for call in range(self._calls)),
                hint="Calls count from 0.",
            )


class _ReadProbe(Probe):
    """Catches what an activation module reads."""

    def attach(self, hooks: ExitStack) -> None:
        def before(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
            in_place = bool(getattr(module, "inplace", False))
            return (self.offer(arguments[0], overwritten=in_place), *arguments[1:])

        hooks.callback(self._module.register_forward_pre_hook(before).remove)


class _ResultProbe(Probe):
    """Catches what any other module returns."""

    def attach(self, hooks: ExitStack) -> None:
        def after(_: nn.Module, __: tuple[Any, ...], result: Tensor) -> Tensor:
            # Whoever reads it next may work in place: that cannot be seen from here.
            return self.offer(result, overwritten=True)

        hooks.callback(self._module.register_forward_hook(after).remove)


class _FunctionProbe(Probe):
    """Catches what an activation function reads, called in a module's own forward method."""

    def __init__(self, name: str, module: nn.Module, on_caught: Callable[[], None]) -> None:
        super().__init__(name, module, on_caught)
        self._depth = 0  # how many modules inside the watched one are running: their calls are theirs

    def attach(self, hooks: ExitStack) -> None:
        watch = _Watch(self)
        module = self._module
        # always_call: a pass may end early, by `until_last_tap` or by an error.
        hooks.callback(module.register_forward_pre_hook(lambda *_: watch.enter()).remove)
        hooks.callback(
            module.register_forward_hook(lambda *_: watch.leave(), prepend=True, always_call=True).remove
        )
        for inner in module.modules():
            if inner is not module:
                hooks.callback(inner.register_forward_pre_hook(lambda *_: self._descend(1)).remove)
                hooks.callback(
                    inner.register_forward_hook(lambda *_: self._descend(-1), always_call=True).remove
                )

    def begin(self) -> None:
        super().begin()
        self._depth = 0

    def called(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> Any:
        """Carry out a function call of the watched module."""
        if self._depth or activation_function_name(function) != self._site.function:
            return function(*arguments, **keywords)
        in_place = works_in_place(function, arguments, keywords)
        if arguments:
            arguments = (self.offer(arguments[0], overwritten=in_place), *arguments[1:])
        else:
            keywords = {**keywords, "input": self.offer(keywords["input"], overwritten=in_place)}
        return function(*arguments, **keywords)

    def _descend(self, levels: int) -> None:
        self._depth += levels


class _Watch(TorchFunctionMode):
    """Shows a `_FunctionProbe` the torch functions that are called while its module runs."""

    def __init__(self, probe: _FunctionProbe) -> None:
        super().__init__()
        self._probe = probe

    def enter(self) -> None:
        """Begin to watch."""
        self.__enter__()  # type: ignore[no-untyped-call]  # torch's own gap

    def leave(self) -> None:
        """Watch no longer."""
        self.__exit__(None, None, None)  # type: ignore[no-untyped-call]  # torch's own gap

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return self._probe.called(func, args, kwargs or {})


def probe_for(model: nn.Module, name: str, on_caught: Callable[[], None]) -> Probe:
    """Make the probe for the tap `name` of `model`, by the scheme of `abcore.taps`.

    Raises:
        Refusal: there is no such module (`taps.not_found`).
    """
    try:
        site: Site = parse_site(name)[0]
        module = model.get_submodule(site.path)
    except (ValueError, AttributeError) as error:
        raise Refusal("taps.not_found", f"the network has no tap point {name!r}", value=name) from error
    if site.function is not None:
        return _FunctionProbe(name, module, on_caught)
    return (_ReadProbe if is_activation(module) else _ResultProbe)(name, module, on_caught)
