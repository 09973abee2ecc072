"""The teacher of a run: frozen, asked for pre-activations and logits, unchanged at the end."""

import hashlib
from collections.abc import Sequence
from types import TracebackType
from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from abcore.taps import TapCapture
from abcore.views import Views


class Teacher:
    """A frozen network with its taps under capture. Use it as a context: hooks are on its model while it is open.

    Parameters and running statistics do not move. A graph is kept only where the images require a gradient. With
    `bn_mode` "train" batch norms use the statistics of the batch, as in the paper's CIFAR code; everything else
    (dropout) works as in evaluation.
    """

    def __init__(self, model: nn.Module, tap_names: Sequence[str], bn_mode: Literal["eval", "train"]) -> None:
        self.model = model.eval().requires_grad_(False)
        if bn_mode == "train":
            for module in model.modules():
                if isinstance(module, _BatchNorm):
                    # In this state a batch norm uses the batch's statistics and leaves its running ones alone.
                    module.training = True
                    module.track_running_stats = False
        self._capture = TapCapture(model, tap_names)
        self.digest = state_digest(model)

    def __enter__(self) -> Self:
        self._capture.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._capture.__exit__(kind, error, trace)

    def preacts(self, images_BCHW: Tensor) -> Views:
        """Return the pre-activations at the taps; what comes after is not computed. The teacher must be open."""
        with torch.set_grad_enabled(images_BCHW.requires_grad):
            preacts = self._capture.until_last_tap(images_BCHW)
        return Views(preacts=preacts, images=images_BCHW if images_BCHW.requires_grad else None)

    @torch.no_grad()
    def logits(self, images_BCHW: Tensor) -> Views:
        """Return the logits."""
        return Views(logits=self.model(images_BCHW))

    def everything(self, images_BCHW: Tensor) -> Views:
        """Return pre-activations and logits of one pass. The teacher must be open."""
        with torch.set_grad_enabled(images_BCHW.requires_grad):
            logits_BK = self.model(images_BCHW).detach()
        return Views(
            preacts=self._capture.preacts,
            logits=logits_BK,
            images=images_BCHW if images_BCHW.requires_grad else None,
        )

    def check_unchanged(self) -> None:
        """Assert that not a bit of the state dict has changed since the teacher was made.

        Raises:
            RuntimeError: something has. Every loss since then is in doubt, so no student may come of it.
        """
        if state_digest(self.model) != self.digest:
            raise RuntimeError("the teacher's state dict changed during the run: this is a bug of abcore")


def state_digest(model: nn.Module) -> str:
    """Return the sha256 of a state dict: names, dtypes, shapes and bytes, in order."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
