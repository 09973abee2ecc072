"""Import torchvision beside a torch that its compiled operators were not built for.

torchvision's public wheel carries CUDA operators. Beside a CPU build of torch its shared library does not load,
and `import torchvision` fails on the missing schema of `torchvision::nms`. Classification models and tensor
transforms need none of those operators: with the two schemas declared, the import succeeds and everything that
does not call them works.
"""

import importlib
import sys
from types import ModuleType

import torch

_ARGUMENTS = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_SCHEMAS = ("nms" + _ARGUMENTS, "qnms" + _ARGUMENTS)
_declared: list[torch.library.Library] = []  # a Library takes its schemas back when it is collected


def import_torchvision() -> ModuleType:
    """Return the `torchvision` package, importable with a matching or a foreign compiled part.

    Call it before anything that imports torchvision by itself (timm does).

    Raises:
        ImportError: torchvision is not installed.
        RuntimeError: torchvision cannot be imported for another reason than its missing operators.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    for name in [name for name in sys.modules if name == "torchvision" or name.startswith("torchvision.")]:
        del sys.modules[name]
    _declare_operators()
    return importlib.import_module("torchvision")


def _declare_operators() -> None:
    # Only ever reached when the real operators are absent: declaring them twice would abort the process.
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]  # torch's own gap
    for schema in _SCHEMAS:
        library.define(schema)  # type: ignore[no-untyped-call]  # torch's own gap
    _declared.append(library)
