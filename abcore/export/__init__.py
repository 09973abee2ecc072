"""The finished student as files: one format a module, each held against the student before it counts.

- `files`       safetensors bytes that depend on their content alone, and the description of a file in `outputs/`
- `finished`    the student as exporters need it
- `weights`     safetensors in float32, float16, bfloat16
- `onnx`, `int8`, `pt2`     programs that run without this package
- `exporting`   all that a run's `outputs` ask for
"""

from abcore.export.files import output_file, to_safetensors

__all__ = ["output_file", "to_safetensors"]
