"""Networks without data: built in milliseconds, of any size."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from abcore.specs.architectures import ImageShape
from abcore.specs.refusals import Refusal

# What parameters and buffers are made with. Other creators (arange, linspace, tensor) stay on the CPU: constructors
# compute depths and widths with them (torchvision's RegNets, for one), which needs values.
_STORAGE_CREATORS: frozenset[Callable[..., Any]] = frozenset(
    {torch.empty, torch.full, torch.ones, torch.rand, torch.randn, torch.zeros}
)


# What initialisers do to a weight. Without data there is nothing to do, and torch takes a millisecond to do it.
_FILLERS = frozenset({"add_", "clamp_", "erfinv_", "fill_", "mul_", "normal_", "uniform_", "zero_"})


class OnMeta(TorchFunctionMode):
    """Inside this context, modules are constructed without allocating or drawing their weights.

    Unlike `torch.device("meta")`, small tensors that a constructor computes with keep their values.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        keywords = kwargs or {}
        if func in _STORAGE_CREATORS and keywords.get("device") is None:
            keywords = {**keywords, "device": "meta"}
        elif getattr(func, "__name__", "") in _FILLERS:
            filled: Tensor = args[0] if args else keywords["tensor"]
            if filled.is_meta:
                return filled
        return func(*args, **keywords)


def meta_twin(model: nn.Module) -> nn.Module:
    """Copy `model` with all its tensors on the meta device, parameters frozen: same structure, no data."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        for holder in (module._parameters, module._buffers, module.__dict__):
            for tensor in holder.values():
                if isinstance(tensor, nn.Parameter):
                    memo[id(tensor)] = nn.Parameter(tensor.detach().to("meta"), requires_grad=False)
                elif isinstance(tensor, Tensor):
                    memo[id(tensor)] = tensor.detach().to("meta")
    return copy.deepcopy(model, memo)


@contextmanager
def passing(image: ImageShape) -> Iterator[None]:
    """Around a forward pass on the meta device: what fails there is the shape of the image, and is refused as such.

    Raises:
        Refusal: the network cannot take images of this shape (`architecture.image`).
    """
    try:
        yield
    except (AssertionError, RuntimeError, ValueError) as error:
        shape = f"{image.channels}x{image.height}x{image.width}"
        raise Refusal(
            "architecture.image",
            f"the network cannot take images of {shape}: {str(error).strip().splitlines()[0]}",
            where="image",
            value=shape,
            hint="Use larger images, or an architecture that reduces the resolution less often.",
        ) from error
