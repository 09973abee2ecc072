"""Several networks that answer as one."""

import math

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """Networks of the same images and classes, `members.0`, `members.1`, ...; their probabilities are averaged.

    To distil such an average into one network is what KD was made for (Hinton et al. 2015, arXiv 1503.02531).
    """

    def __init__(self, members: list[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return logits_BK whose softmax is the mean of the members' softmax."""
        log_probabilities_MBK = torch.stack(
            [member(images_BCHW).log_softmax(dim=1) for member in self.members]
        )
        return log_probabilities_MBK.logsumexp(dim=0) - math.log(len(self.members))
