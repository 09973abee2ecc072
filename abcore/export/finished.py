"""The finished student as exporters need it: on the CPU, in evaluation mode, with what travels along."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from abcore.architectures import build_model
from abcore.specs.architectures import ModelSpec, Normalization


@dataclass(frozen=True)
class FinishedStudent:
    """A network that will not change any more, and what is needed to use it.

    `normalization` is what its images were scaled with, `classes` are in the order of its logits, `metrics` the figures
    that travel with it. They hold no time: the same seed shall give the same files.
    """

    model: nn.Module
    spec: ModelSpec
    normalization: Normalization
    classes: tuple[str, ...]
    metrics: Mapping[str, float]

    @classmethod
    def of(
        cls,
        trained: nn.Module,
        spec: ModelSpec,
        normalization: Normalization,
        classes: tuple[str, ...],
        metrics: Mapping[str, float],
    ) -> "FinishedStudent":
        """Copy a trained network, without its hooks, device and memory layout. Draws no number of the run's."""
        with torch.random.fork_rng(devices=[]):
            model = build_model(spec)
        model.load_state_dict(
            {name: tensor.cpu().contiguous() for name, tensor in trained.state_dict().items()}
        )
        return cls(model.eval().requires_grad_(False), spec, normalization, classes, metrics)

    @property
    def state(self) -> dict[str, Tensor]:
        """The state dict, contiguous."""
        return {name: tensor.detach().contiguous() for name, tensor in self.model.state_dict().items()}

    @property
    def metadata(self) -> dict[str, str]:
        """What every file carries, each a JSON text: `model` (ModelSpec), `normalization`, `classes`, `metrics`."""
        return {
            "model": self.spec.model_dump_json(),
            "normalization": self.normalization.model_dump_json(),
            "classes": json.dumps(self.classes),
            "metrics": json.dumps(dict(self.metrics), sort_keys=True),
        }

    def example(self) -> Tensor:
        """Two images of nothing, images_BCHW float32, to trace the network with: files must hold no one's pixels."""
        image = self.spec.image
        return torch.zeros(2, image.channels, image.height, image.width)
