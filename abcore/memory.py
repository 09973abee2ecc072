"""Memory that could not be had: how it is recognised, and what earlier attempts at a job learnt about it."""

import os

import torch

HALVINGS_VARIABLE = "ABDISTILL_MEMORY_HALVINGS"
"""How many earlier attempts ended for want of memory, which they could not answer themselves."""

_REFUSED_BY_ALLOCATOR = (
    "can't allocate memory",  # torch's CPU allocator
    "not enough memory",  # the same, on Windows and macOS
    "std::bad_alloc",
    "could not create a primitive",  # oneDNN, which says no more than that of why
    "CUDA out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be had: of a GPU, or of this machine under its limits."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _REFUSED_BY_ALLOCATOR)


def earlier_halvings() -> int:
    """Return how often batches are to be halved before anything is tried, from `ABDISTILL_MEMORY_HALVINGS`."""
    return int(os.environ.get(HALVINGS_VARIABLE, "0"))
