"""A teacher's upload, from untrusted bytes to the weights of a network that answers."""

from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from abcore.architectures import build_model, build_on_meta
from abcore.describe import describe_model
from abcore.export import output_file
from abcore.ingest.limits import refuse_beyond_limits
from abcore.ingest.pickles import load_torch_checkpoint, refuse_legacy
from abcore.ingest.signatures import kind_of, looks_like
from abcore.ingest.statedicts import fit, unwrap
from abcore.ingest.tensorfiles import load_safetensors
from abcore.specs.architectures import ModelSpec
from abcore.specs.refusals import Refusal
from abcore.specs.reports import TeacherReport
from abcore.specs.runs import RunResult, VerifyTeacherRun


@refuse_beyond_limits
def verify_teacher(run: VerifyTeacherRun, workspace: Path) -> RunResult:
    """Read `inputs/upload`, hold it against `run.model`, write `outputs/teacher.safetensors` in float32.

    Raises:
        Refusal: `checkpoint.*`: the file is no checkpoint, is not safe to read, or does not fit the architecture.
    """
    upload = workspace / "inputs" / "upload"
    expected = build_on_meta(run.model).state_dict()
    checkpoint, file_format = _load(upload)
    tensors, nestings = unwrap(checkpoint)
    tensors, prefixes = fit(tensors, expected, run.model)
    state, dtype = _to_float32(tensors, expected)
    _check_answers(run.model, state)
    path = workspace / "outputs" / "teacher.safetensors"
    # One entry of metadata: several come in random order, and the same upload must give the same bytes.
    save_file(state, path, metadata={"model": run.model.model_dump_json()})
    report = TeacherReport(
        description=describe_model(run.model),
        format=file_format,
        dtype=dtype,
        renames=(*nestings, *prefixes),
    )
    return RunResult(report=report, files=(output_file(path, "teacher", "application/vnd.safetensors"),))


def _load(upload: Path) -> tuple[object, Literal["torch", "safetensors"]]:
    match kind_of(upload):
        case "zip":
            return load_torch_checkpoint(upload), "torch"
        case "safetensors":
            return load_safetensors(upload), "safetensors"
        case "pickle":
            raise refuse_legacy(upload)
        case _:
            raise Refusal(
                "checkpoint.unknown_format",
                f"the file is no checkpoint: it looks like {looks_like(upload)}",
                where="checkpoint",
                allowed=(".safetensors", ".pt or .pth of torch.save"),
                hint="Send a state dict: torch.save(model.state_dict(), 'teacher.pt').",
            )


def _to_float32(tensors: dict[str, Tensor], expected: dict[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Copy into memory what fits; keys keep the architecture's order. Also say which float dtype the weights had."""
    state: dict[str, Tensor] = {}
    dtypes: set[str] = set()
    for name, like in expected.items():
        if name not in tensors:
            state[name] = torch.zeros(like.shape, dtype=like.dtype)
            continue
        tensor = tensors[name]
        if like.is_floating_point() and not tensor.is_floating_point():
            raise Refusal(
                "checkpoint.unsupported_tensor",
                f"{name} is {tensor.dtype}; weights must be floats",
                where=f"checkpoint:{name}",
                value=str(tensor.dtype),
                allowed=("float32", "float16", "bfloat16", "float64"),
                hint="Send the weights as they were before quantisation.",
            )
        if tensor.is_floating_point():
            dtypes.add(str(tensor.dtype).removeprefix("torch."))
        state[name] = tensor.detach().to(like.dtype).clone(memory_format=torch.contiguous_format)
        if not torch.isfinite(state[name]).all():
            raise Refusal(
                "checkpoint.not_finite",
                f"{name} contains values that are not finite in float32",
                where=f"checkpoint:{name}",
                hint="The training had diverged, or the values are too large: send an earlier checkpoint.",
            )
    return state, "+".join(sorted(dtypes)) or "none"


def _check_answers(spec: ModelSpec, state: dict[str, Tensor]) -> None:
    """One small forward pass: weights that fit can still give nothing but NaN, by a negative variance for one."""
    model = build_model(spec).eval()
    model.load_state_dict(state)
    image = spec.image
    images_BCHW = torch.rand(2, image.channels, image.height, image.width)
    with torch.inference_mode():
        logits_BK = model(images_BCHW)
    if not torch.isfinite(logits_BK).all():
        raise Refusal(
            "checkpoint.no_answer",
            "the network gives logits that are not finite on an image of random pixels",
            where="checkpoint",
            hint="Check the running variances of its batch norms, and whether it was saved after a diverged step.",
        )
