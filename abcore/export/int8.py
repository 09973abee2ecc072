"""INT8: ONNX Runtime's static quantisation. Weights one scale a channel, activations one a tensor.

Jacob et al., *Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference*, CVPR 2018.
"""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from abcore.export.onnx import INPUT

if TYPE_CHECKING:
    import onnx

CALIBRATION_IMAGES = 1024


def quantised(model: "onnx.ModelProto", calibration: Iterable[Tensor]) -> "onnx.ModelProto":
    """Return an ONNX model with 8-bit weights and activations (QDQ: every runtime knows it).

    Args:
        model: in float32.
        calibration: batches images_BCHW, normalised; the ranges of activations are taken from them.
    """
    import onnx  # noqa: PLC0415  # optional, like what follows
    from onnxruntime.quantization import (  # noqa: PLC0415
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.registry import QDQRegistry  # noqa: PLC0415
    from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: PLC0415

    class Images(CalibrationDataReader):  # type: ignore[misc]  # the library has no types
        def __init__(self) -> None:
            self._batches: Iterator[Tensor] = iter(calibration)

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self._batches, None)
            return None if batch is None else {INPUT: batch.contiguous().numpy()}

    with tempfile.TemporaryDirectory() as folder:
        plain, prepared, target = (Path(folder, f"{name}.onnx") for name in ("plain", "prepared", "int8"))
        onnx.save(model, plain)
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            target,
            Images(),
            quant_format=QuantFormat.QDQ,
            # Batch norms that fold into no convolution stay in float32: their scales differ too much between channels.
            op_types_to_quantize=sorted(set(QDQRegistry) - {"BatchNormalization"}),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
        return onnx.load(target)
