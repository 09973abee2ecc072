"""ONNX: the student's graph for any batch size, by torch's dynamo exporter, and how to run such a file.

The libraries are optional (`abdistill-server[export]`), so they are imported where they are used.
"""

import logging
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.export import Dim

from abcore.export.finished import FinishedStudent

if TYPE_CHECKING:
    import onnx

INPUT, OUTPUT = "images", "logits"


def graph(student: FinishedStudent) -> "onnx.ModelProto":
    """Return the student as ONNX: `images` (batch, C, H, W) float32 -> `logits` (batch, K) float32."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about what the exporter does inside
        exported = torch.onnx.export(
            student.model,
            (student.example(),),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: Dim("batch", min=1)},),
            external_data=False,
            verbose=False,
        )
    assert exported is not None, "dynamo=True returns the program"
    return exported.model_proto


def serialised(model: "onnx.ModelProto", student: FinishedStudent) -> bytes:
    """Return a model's bytes, the same for the same content: compact, with the student's metadata, without traces.

    Exporters write a trace of Python lines at each node, with folders of this machine, and names of many words.
    """
    import onnx  # noqa: PLC0415  # optional

    for used in (
        model.graph,
        *model.graph.node,
        *model.graph.initializer,
        *model.graph.input,
        *model.graph.output,
    ):
        used.doc_string = ""
        del used.metadata_props[:]
    model.doc_string = ""
    del model.graph.value_info[:]
    del model.metadata_props[:]
    if not any(attribute.HasField("g") for node in model.graph.node for attribute in node.attribute):
        _shorten_names(model.graph)  # a graph inside a node uses the names of the one around it
    domains = {node.domain for node in model.graph.node}
    kept = [entry for entry in model.opset_import if entry.domain in domains]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    for name, text in sorted(student.metadata.items()):
        model.metadata_props.add(key=name, value=text)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def facts(model: "onnx.ModelProto") -> dict[str, str]:
    """What a reader must know."""
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    return {"opset": str(opset), "input": INPUT, "output": OUTPUT}


def load_graph(content: bytes) -> Callable[[Tensor], Tensor]:
    """Return what ONNX Runtime makes of a file, on the CPU: images_BCHW -> logits_BK."""
    import onnxruntime  # noqa: PLC0415  # optional

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = logging.ERROR // 10
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(images_BCHW: Tensor) -> Tensor:
        (logits_BK,) = session.run([OUTPUT], {INPUT: images_BCHW.contiguous().numpy()})
        return torch.from_numpy(logits_BK)

    return run


def _shorten_names(graph: "onnx.GraphProto") -> None:
    """Name inner tensors t0, t1, ...; of a small quantised student the exporter's names are a tenth of the file."""
    names: dict[str, str] = {value.name: value.name for value in (*graph.input, *graph.output)} | {"": ""}

    def short(name: str) -> str:
        return names.setdefault(name, f"t{len(names)}")

    for node in graph.node:
        node.name = ""
        node.input[:] = [short(name) for name in node.input]
        node.output[:] = [short(name) for name in node.output]
    for tensor in graph.initializer:
        tensor.name = short(tensor.name)
