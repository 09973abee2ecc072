"""Networks without data: built in milliseconds, of any size."""

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

# What parameters and buffers are made with. Other creators (arange, linspace, tensor) stay on the CPU: constructors
# compute depths and widths with them (torchvision's RegNets, for one), which needs values.
_STORAGE_CREATORS: frozenset[Callable[..., Any]] = frozenset(
    {torch.empty, torch.full, torch.ones, torch.rand, torch.randn, torch.zeros}
)


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
        return func(*args, **keywords)
