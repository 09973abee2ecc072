"""safetensors: the state dict with its spec inside. Rounded ones are for storage; load them into a float32 network."""

import copy

import torch
from torch import nn

from abcore.export.files import to_safetensors
from abcore.export.finished import FinishedStudent


def weights(student: FinishedStudent) -> bytes:
    """Return the state dict in float32. The same weights and metadata give the same bytes."""
    return to_safetensors(student.state, {"format": "pt", **student.metadata})


def rounded_weights(student: FinishedStudent, dtype: torch.dtype) -> tuple[bytes, nn.Module]:
    """Return the state dict with floating-point tensors rounded to `dtype`, and the float32 network of those weights.

    Running statistics of batch norms are rounded too. Integers stay as they are.

    Raises:
        OverflowError: a weight is beyond what the type can hold.
    """
    state = {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor
        for name, tensor in student.state.items()
    }
    for name, tensor in state.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise OverflowError(f"{name} has values that {str(dtype).removeprefix('torch.')} cannot hold")
    model = copy.deepcopy(student.model)
    model.load_state_dict(state)
    return to_safetensors(state, {"format": "pt", **student.metadata}), model
