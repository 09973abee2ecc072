"""`.pt2`: a program of torch.export, for any batch size; runs without this package, in Python and in AOTInductor."""

import io
from collections.abc import Callable

import torch
from torch import Tensor
from torch.export import Dim

from abcore.export.finished import FinishedStudent


def program(student: FinishedStudent) -> bytes:
    """Return the student as a serialised `ExportedProgram`: images_BCHW float32 -> logits_BK float32."""
    exported = torch.export.export(
        student.model, (student.example(),), dynamic_shapes=({0: Dim("batch", min=1)},)
    )
    for module in exported.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)  # it names folders of the machine that exported
    buffer = io.BytesIO()
    torch.export.save(exported, buffer, extra_files=student.metadata)
    return buffer.getvalue()


def load_program(content: bytes) -> Callable[[Tensor], Tensor]:
    """Return what a reader of the file gets."""
    loaded: Callable[[Tensor], Tensor] = torch.export.load(io.BytesIO(content)).module()
    return loaded
