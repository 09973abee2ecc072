"""DTL: a second head of the student that learns a teacher's logits for other classes than the dataset's."""

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from abcore.losses import accumulation_dtype
from abcore.specs.refusals import Refusal


def dtl_loss(logits_BK: Tensor, teacher_logits_BK: Tensor) -> Tensor:
    """Mean squared difference of logits, each image's centred first (the paper's transfer-learning code).

    Returns:
        A scalar: averaged over classes and batch. float32 for half-precision input.
    """
    dtype = accumulation_dtype(logits_BK.dtype)
    centred, target = (
        logits.to(dtype) - logits.to(dtype).mean(dim=1, keepdim=True)
        for logits in (logits_BK, teacher_logits_BK.detach())
    )
    return (centred - target).square().mean()


class TransferHead(nn.Module):
    """A linear layer beside the student's classifier: reads the same features, says the teacher's classes.

    Attach it while the student runs: it keeps what the classifier, the student's last linear layer, was given.

    Raises:
        Refusal: the student has no linear layer (`dtl.no_classifier`).
    """

    def __init__(self, student: nn.Module, num_classes: int) -> None:
        super().__init__()
        linear = [module for module in student.modules() if isinstance(module, nn.Linear)]
        if not linear:
            raise Refusal(
                "dtl.no_classifier",
                "DTL puts a second head beside the student's last linear layer, and it has none",
                where="recipe.finetune.dtl_weight",
                allowed=("0",),
                hint="Set dtl_weight to 0, or take a student that ends in a linear layer.",
            )
        # In a list, so that the student's layer is not registered as a part of this head.
        self._classifier = [linear[-1]]
        self._features: Tensor | None = None
        self.head = nn.Linear(linear[-1].in_features, num_classes)

    def attach(self, hooks: ExitStack) -> None:
        """Listen to the student's classifier until `hooks` closes."""

        def keep(_: nn.Module, arguments: tuple[Any, ...]) -> None:
            self._features = arguments[0]

        handle = self._classifier[0].register_forward_pre_hook(keep)
        hooks.callback(handle.remove)

    def forward(self) -> Tensor:
        """Return logits_BK of the teacher's classes for the batch that the student has just seen."""
        assert self._features is not None, "the student has not run since the head was attached"
        logits_BK: Tensor = self.head(torch.flatten(self._features, 1))
        return logits_BK
