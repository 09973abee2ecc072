"""Connectors: from a student's tap to the width and the resolution of the teacher's (paper, section 3.2)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Connector(nn.Module):
    """A 1x1 convolution without bias, then batch norm: preact_BCHW of the student -> preact_BCHW like the teacher's.

    Weights are drawn from N(0, 2 / (k² · out_channels)) with k = 1, by torch's global generator. Trained with the
    student, thrown away with the teacher. Where the maps differ in size the student's is resized: averaged over areas
    when the teacher's is smaller, interpolated bilinearly when it is larger.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        nn.init.normal_(self.conv.weight, std=math.sqrt(2 / out_channels))

    def forward(self, preact_BCHW: Tensor, size: torch.Size) -> Tensor:
        """Connect a map; `size` is the teacher's (height, width)."""
        # A resize acts within channels and a 1x1 convolution within pixels, so they commute: convolve the smaller map.
        if size.numel() < preact_BCHW.shape[2:].numel():
            connected = self.conv(resize(preact_BCHW, size))
        else:
            connected = resize(self.conv(preact_BCHW), size)
        normalised: Tensor = self.bn(connected)
        return normalised


class Straight(nn.Module):
    """No connector: the student's map as it is, resized where it has to be. Has no parameters."""

    def forward(self, preact_BCHW: Tensor, size: torch.Size) -> Tensor:
        """Resize a map to the teacher's `size`, (height, width)."""
        return resize(preact_BCHW, size)


def resize(maps_BCHW: Tensor, size: torch.Size) -> Tensor:
    """Resize feature maps to `size` = (height, width): each side averaged if it shrinks, bilinear if it grows."""
    height, width = size
    shrunk = (min(height, maps_BCHW.shape[2]), min(width, maps_BCHW.shape[3]))
    if shrunk != maps_BCHW.shape[2:]:
        maps_BCHW = F.adaptive_avg_pool2d(maps_BCHW, shrunk)
    if size != maps_BCHW.shape[2:]:
        maps_BCHW = F.interpolate(maps_BCHW, size=(height, width), mode="bilinear", align_corners=False)
    return maps_BCHW
