"""From what a checkpoint file holds to the state dict of its architecture, or to a list of what does not fit."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from abcore.specs.architectures import ModelSpec
from abcore.specs.refusals import Refusal

_NESTS = (
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "network",
    "model_ema",
    "ema",
    "state_dict_ema",
    "weights",
)
"""Keys under which training scripts keep the state dict, the likelier first."""

_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.")
"""What wrappers put before every key: DataParallel and DDP, torch.compile, and modules that hold the network."""

_DEEPEST_NEST = 3
_LISTED = 10


def unwrap(checkpoint: Any) -> tuple[dict[str, Tensor], list[str]]:
    """Find the state dict inside a checkpoint; also return the nestings that were undone, in order.

    Raises:
        Refusal: `checkpoint.no_state_dict`: there is none, with what is there instead.
    """
    undone: list[str] = []
    for _ in range(_DEEPEST_NEST + 1):
        if not isinstance(checkpoint, Mapping):
            break
        if checkpoint and all(isinstance(value, Tensor) for value in checkpoint.values()):
            return {_printable(key): value for key, value in checkpoint.items()}, undone
        nest = next((key for key in _NESTS if isinstance(checkpoint.get(key), Mapping)), None)
        if nest is None:
            break
        undone.append(f"{nest} → (top)")
        checkpoint = checkpoint[nest]
    seen = (
        f"a mapping with the keys {sorted(_printable(key)[:100] for key in checkpoint)[:_LISTED]}"
        if isinstance(checkpoint, Mapping)
        else f"an object of type {type(checkpoint).__name__}"
    )
    raise Refusal(
        "checkpoint.no_state_dict",
        f"no state dict was found in the checkpoint; it holds {seen}",
        where="checkpoint",
        allowed=("(top)", *_NESTS),
        hint="Save the state dict by itself: torch.save(model.state_dict(), 'teacher.pt').",
    )


def _printable(key: object) -> str:
    """Pickles may hold strings that no encoding can write; they match no parameter, and must not break the report."""
    return str(key).encode(errors="backslashreplace").decode()


def fit(
    tensors: dict[str, Tensor], expected: Mapping[str, Tensor], spec: ModelSpec
) -> tuple[dict[str, Tensor], list[str]]:
    """Rename a state dict's keys to those of its architecture; also return the prefixes that were undone.

    Args:
        tensors: the checkpoint's, of any size; none is read before all shapes are known to fit.
        expected: the architecture's state dict, on the meta device.
        spec: what the caller said that this is.

    Raises:
        Refusal: `checkpoint.mismatch`: the first missing, unexpected and misshapen keys, with their counts.
    """
    tensors, renames = _strip_prefixes(tensors, expected)
    # A counter of batches, absent from old checkpoints; no forward pass in evaluation mode reads it.
    optional = {name for name in expected if name.endswith("num_batches_tracked")}
    missing = [name for name in expected if name not in tensors and name not in optional]
    unexpected = [name for name in tensors if name not in expected]
    misshapen = [
        f"{name}: checkpoint {tuple(tensor.shape)}, architecture {tuple(expected[name].shape)}"
        for name, tensor in tensors.items()
        if name in expected and tensor.shape != expected[name].shape
    ]
    if missing or unexpected or misshapen:
        differences = {"missing": missing, "unexpected": unexpected, "other shape": misshapen}
        told = "; ".join(
            f"{len(names)} {what} ({', '.join(name[:200] for name in names[:3])}{', ...' if len(names) > 3 else ''})"
            for what, names in differences.items()
            if names
        )
        raise Refusal(
            "checkpoint.mismatch",
            f"the checkpoint does not fit its architecture: {told}",
            where="checkpoint",
            value={
                what: [name[:200] for name in names[:_LISTED]] for what, names in differences.items() if names
            },
            hint=_explain(tensors, expected, spec, fits_otherwise=not missing and not unexpected),
        )
    return tensors, renames


def _strip_prefixes(
    tensors: dict[str, Tensor], expected: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    renames: list[str] = []
    while not any(name in expected for name in tensors):
        prefix = next((p for p in _PREFIXES if all(name.startswith(p) for name in tensors)), None)
        if prefix is None:
            break
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        renames.append(f"{prefix}* → *")
    return tensors, renames


def _explain(
    tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], spec: ModelSpec, *, fits_otherwise: bool
) -> str:
    """Say what the difference probably means; the commonest mistakes are a wrong number of classes or of channels."""
    if not fits_otherwise:
        return "Check `model.architecture`: family, depth, width and stem must be those of the checkpoint."
    wrong = [
        (tensor.shape, expected[name].shape)
        for name, tensor in tensors.items()
        if tensor.shape != expected[name].shape
    ]
    firsts = {(mine[0], theirs[0]) for mine, theirs in wrong if mine and theirs and mine[1:] == theirs[1:]}
    if len(firsts) == 1 and next(iter(firsts))[1] == spec.num_classes:
        classes = next(iter(firsts))[0]
        return (
            f"The checkpoint has {classes} classes and `model.num_classes` says {spec.num_classes}: "
            f"set it to {classes}."
        )
    seconds = {
        (mine[1], theirs[1])
        for mine, theirs in wrong
        if len(mine) == len(theirs) == 4 and mine[2:] == theirs[2:]
    }
    if len(wrong) == 1 and len(seconds) == 1 and next(iter(seconds))[1] == spec.image.channels:
        channels = next(iter(seconds))[0]
        return (
            f"The checkpoint takes images of {channels} channels and `model.image.channels` says "
            f"{spec.image.channels}: set it to {channels}."
        )
    return "Check `model.architecture`: width and stem must be those of the checkpoint."
