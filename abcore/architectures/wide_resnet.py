"""Wide residual networks for small images (Zagoruyko and Komodakis 2016, arXiv 1605.07146).

Pre-activation blocks: batch norm and ReLU come before each convolution. Modules carry the names of the public
PyTorch implementations of the paper's authors and of activation-boundary distillation, so that their checkpoints
load and the paper's taps exist by name: `block2.layer.0.bn1`, `block3.layer.0.bn1`, `bn1`.
"""

import math

import torch
from torch import Tensor, nn

from abcore.specs.architectures import ModelSpec, WideResNet


class _Block(nn.Module):
    """Two 3x3 convolutions, each after batch norm and ReLU, and the shortcut around them."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        # Not registered at all where the shortcut is the identity: it has no key in the state dict.
        self.convShortcut = (
            None
            if in_channels == out_channels
            else nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
        )

    def forward(self, features_BCHW: Tensor) -> Tensor:
        activated = self.relu1(self.bn1(features_BCHW))
        # A projecting shortcut starts after the activation, an identity before it.
        shortcut = features_BCHW if self.convShortcut is None else self.convShortcut(activated)
        residual: Tensor = self.conv2(self.relu2(self.bn2(self.conv1(activated))))
        return residual + shortcut


class _Group(nn.Module):
    """Blocks of one resolution; the first one changes width and resolution."""

    def __init__(self, num_blocks: int, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(
            *(
                _Block(
                    in_channels if index == 0 else out_channels,
                    out_channels,
                    stride if index == 0 else 1,
                )
                for index in range(num_blocks)
            )
        )

    def forward(self, features_BCHW: Tensor) -> Tensor:
        out: Tensor = self.layer(features_BCHW)
        return out


class WideResNetModel(nn.Module):
    """WRN-depth-width: images_BCHW float32 -> logits_BK float32.

    The groups work at full, half and quarter resolution with 16w, 32w and 64w channels.
    """

    def __init__(self, depth: int, width: int, in_channels: int, num_classes: int) -> None:
        super().__init__()
        num_blocks = (depth - 4) // 6
        channels = (16, 16 * width, 32 * width, 64 * width)
        self.conv1 = nn.Conv2d(in_channels, channels[0], 3, padding=1, bias=False)
        self.block1 = _Group(num_blocks, channels[0], channels[1], stride=1)
        self.block2 = _Group(num_blocks, channels[1], channels[2], stride=2)
        self.block3 = _Group(num_blocks, channels[2], channels[3], stride=2)
        self.bn1 = nn.BatchNorm2d(channels[3])
        self.relu = nn.ReLU()
        self.fc = nn.Linear(channels[3], num_classes)
        self._initialise()

    def _initialise(self) -> None:
        # He et al. 2015 (arXiv 1502.01852), variance by fan-out, as the public implementations do; norms keep 1, 0.
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.out_channels * math.prod(module.kernel_size)
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        nn.init.zeros_(self.fc.bias)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        features = self.block3(self.block2(self.block1(self.conv1(images_BCHW))))
        pooled_BC = torch.mean(self.relu(self.bn1(features)), dim=(2, 3))
        logits_BK: Tensor = self.fc(pooled_BC)
        return logits_BK


def build_wide_resnet(architecture: WideResNet, spec: ModelSpec) -> WideResNetModel:
    """Build the network; any image of 4 pixels and more works."""
    return WideResNetModel(architecture.depth, architecture.width, spec.image.channels, spec.num_classes)
