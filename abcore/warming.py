"""What a child can do before it knows its work: import what training needs, and do once what is slow the first time."""

import torch

from abcore import distillation, teacher_training  # noqa: F401  # to have them imported is the purpose
from abcore.architectures import build_model
from abcore.describe import describe_model
from abcore.optim import build_optimizer
from abcore.specs.architectures import ImageShape, ModelSpec, WideResNet
from abcore.specs.recipes import Optimizer

_SMALL = ModelSpec(
    architecture=WideResNet(arch="wide_resnet", depth=10, width=1),
    image=ImageShape(channels=1, height=8, width=8),
    num_classes=2,
)


def warm_up() -> None:
    """Describe a small network and train it for one step, on the CPU; seconds without it become milliseconds later.

    Draws from torch's global generator: a run seeds it anew.
    """
    describe_model(_SMALL)
    model = build_model(_SMALL)
    logits_BK = model(torch.zeros(2, 1, 8, 8))
    torch.autograd.backward(logits_BK.sum())
    build_optimizer(Optimizer(), model.parameters()).step()
