"""What can be done before any work is known: import what runs need, and do once what is slow the first time."""

from abcore import distillation, ingest, teacher_training  # noqa: F401  # to have them imported is the purpose
from abcore.describe import describe_model
from abcore.specs.architectures import ImageShape, ModelSpec, WideResNet

_SMALL = ModelSpec(
    architecture=WideResNet(arch="wide_resnet", depth=10, width=1),
    image=ImageShape(channels=1, height=8, width=8),
    num_classes=2,
)


def warm_up() -> None:
    """Describe a small network; seconds without it become milliseconds later.

    Nothing is computed on a device or by the autograd engine: both keep threads and handles, which are lost to what is
    forked afterwards. `OMP_NUM_THREADS` should be 1, for the same reason.
    """
    describe_model(_SMALL)
