"""What counts as an activation: modules and functions that are off below zero and on above it."""

from collections.abc import Callable
from typing import Any

from torch import nn

_MODULES = (
    nn.CELU,
    nn.ELU,
    nn.GELU,
    nn.Hardswish,
    nn.LeakyReLU,
    nn.Mish,
    nn.PReLU,
    nn.ReLU,
    nn.ReLU6,
    nn.RReLU,
    nn.SELU,
    nn.SiLU,
)
# Classes of timm and of others who write these functions out; by name, so that timm need not be there.
_CLASS_NAMES = frozenset(
    {"GELU", "GELUTanh", "HardMish", "HardSwish", "Mish", "QuickGELU", "ReLU", "ReLU6", "SiLU", "Swish"}
)
_FUNCTIONS = frozenset(
    {
        "celu",
        "elu",
        "gelu",
        "hardswish",
        "leaky_relu",
        "mish",
        "prelu",
        "relu",
        "relu6",
        "rrelu",
        "selu",
        "silu",
    }
)


def is_activation(module: nn.Module) -> bool:
    """Whether what `module` reads is a pre-activation with its boundary at zero.

    Gates (sigmoid, hard sigmoid, softmax) are not: they weigh features, and have no side that is off.
    """
    return isinstance(module, _MODULES) or type(module).__name__ in _CLASS_NAMES


def activation_function_name(function: Callable[..., Any]) -> str | None:
    """The name of an activation called as a function or method, without the underscore of in-place forms.

    None for every other function.
    """
    name = getattr(function, "__name__", "").rstrip("_")
    return name if name in _FUNCTIONS else None


def works_in_place(
    function: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> bool:
    """Whether this call of an activation function overwrites what it reads."""
    # Passed by position, `inplace` is the only argument of these functions that can be True.
    in_place = bool(keywords.get("inplace")) or any(argument is True for argument in arguments)
    return in_place or function.__name__.endswith("_")
