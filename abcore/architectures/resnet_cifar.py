"""Residual networks for small images (He et al. 2016, arXiv 1512.03385, section 4.2): 20 to 110 layers and more.

Modules carry the names of the public implementation that the distillation literature shares (Tian et al. 2020, arXiv
1910.10699), so that its checkpoints load. Its x4 networks begin with 32 channels instead of 16.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from abcore.specs.architectures import ModelSpec, ResNetCifar


class _PaddingShortcut(nn.Module):
    """Every second pixel, and zeros for the channels that are new (option A of the paper)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        added = out_channels - in_channels
        self._stride = stride
        self._padding = (0, 0, 0, 0, added // 2, added - added // 2)

    def forward(self, features_BCHW: Tensor) -> Tensor:
        return F.pad(features_BCHW[:, :, :: self._stride, :: self._stride], self._padding)


class _Block(nn.Module):
    """Two 3x3 convolutions with batch norm, a shortcut, and a ReLU after the sum."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = (
                nn.Sequential(
                    nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
                )
                if shortcut == "projection"
                else _PaddingShortcut(in_channels, out_channels, stride)
            )

    def forward(self, features_BCHW: Tensor) -> Tensor:
        shortcut = features_BCHW if self.downsample is None else self.downsample(features_BCHW)
        residual = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(features_BCHW)))))
        activated: Tensor = self.relu(residual + shortcut)
        return activated


class ResNetCifarModel(nn.Module):
    """ResNet-depth, three stages at full, half and quarter resolution: images_BCHW float32 -> logits_BK float32."""

    def __init__(self, architecture: ResNetCifar, in_channels: int, num_classes: int) -> None:
        super().__init__()
        num_blocks = (architecture.depth - 2) // 6
        stem = 16 if architecture.width == 1 else 32
        widths = [16 * architecture.width * factor for factor in (1, 2, 4)]
        self.conv1 = nn.Conv2d(in_channels, stem, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU()
        self.layer1 = _stage(num_blocks, stem, widths[0], 1, architecture.shortcut)
        self.layer2 = _stage(num_blocks, widths[0], widths[1], 2, architecture.shortcut)
        self.layer3 = _stage(num_blocks, widths[1], widths[2], 2, architecture.shortcut)
        self.fc = nn.Linear(widths[2], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images_BCHW: Tensor) -> Tensor:
        features = self.relu(self.bn1(self.conv1(images_BCHW)))
        features = self.layer3(self.layer2(self.layer1(features)))
        logits_BK: Tensor = self.fc(torch.mean(features, dim=(2, 3)))
        return logits_BK


def _stage(num_blocks: int, in_channels: int, out_channels: int, stride: int, shortcut: str) -> nn.Sequential:
    first = _Block(in_channels, out_channels, stride, shortcut)
    rest = [_Block(out_channels, out_channels, 1, shortcut) for _ in range(num_blocks - 1)]
    return nn.Sequential(first, *rest)


def build_resnet_cifar(architecture: ResNetCifar, spec: ModelSpec) -> ResNetCifarModel:
    """Build the network; any image of 4 pixels and more works."""
    return ResNetCifarModel(architecture, spec.image.channels, spec.num_classes)
