"""Signs as bits: which side of each boundary an image lies on, eight neurons to a byte.

Shapes: B images, P bytes an image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from abcore.specs.reports import TapPair


@dataclass(frozen=True)
class SignLayout:
    """How the signs at a teacher's taps lie in a row of bytes: tap after tap, each from a new byte on.

    Attributes:
        shapes: (channels, height, width) of each tap, shallow to deep.
        channels_last: whether the neurons of a tap lie as height, width, channels, as the maps that they are compared
            with do in memory, so that reading both is one pass; else as channels, height, width.
    """

    shapes: tuple[tuple[int, int, int], ...]
    channels_last: bool = False

    @classmethod
    def of(cls, pairs: Sequence[TapPair], *, channels_last: bool = False) -> "SignLayout":
        """Return the layout for the teacher's side of these pairs."""
        shapes = tuple((pair.teacher.channels, pair.teacher.height, pair.teacher.width) for pair in pairs)
        return cls(shapes, channels_last)

    @property
    def row_bytes(self) -> int:
        """P: bytes an image."""
        return sum(self._tap_bytes)

    def pack(self, preacts: Sequence[Tensor]) -> Tensor:
        """Return packed_BP, uint8, of pre-activations, each preact_BCHW: a bit is set where it is above zero."""
        parts = []
        for preact_BCHW in preacts:
            ordered = preact_BCHW.permute(0, 2, 3, 1) if self.channels_last else preact_BCHW
            on_BN = (ordered > 0).flatten(1)
            on_BP8 = F.pad(on_BN, (0, -on_BN.shape[1] % 8)).view(len(on_BN), -1, 8).to(torch.uint8)
            parts.append((on_BP8 << torch.arange(8, device=on_BP8.device, dtype=torch.uint8)).sum(2))
        return torch.cat(parts, dim=1).to(torch.uint8)

    def unpack(self, packed_BP: Tensor) -> list[Tensor]:
        """Return what was packed, a bool tensor for each tap, shaped and laid out as its pre-activations."""
        ends = [0]
        for size in self._tap_bytes:
            ends.append(ends[-1] + size)
        boundaries = []
        for (channels, height, width), (start, end) in zip(self.shapes, pairwise(ends), strict=True):
            tap_BP = packed_BP[:, start:end]
            on_BN = _bits(tap_BP)[:, : channels * height * width]
            if self.channels_last:
                boundaries.append(on_BN.reshape(-1, height, width, channels).permute(0, 3, 1, 2))
            else:
                boundaries.append(on_BN.reshape(-1, channels, height, width))
        return boundaries

    @property
    def _tap_bytes(self) -> list[int]:
        return [-(-channels * height * width // 8) for channels, height, width in self.shapes]


def _bits(packed_BP: Tensor) -> Tensor:
    """Eight bools a byte, (B, 8 P)."""
    if torch.compiler.is_compiling():
        # What is written out becomes part of the kernel that reads the bits.
        shifts = torch.arange(8, device=packed_BP.device, dtype=torch.uint8)
        return ((packed_BP[..., None] >> shifts) & 1).bool().flatten(1)
    eights = _eight_bools(packed_BP.device).index_select(0, packed_BP.flatten().int())
    return eights.view(torch.bool).view(len(packed_BP), -1)


@cache
def _eight_bools(device: torch.device) -> Tensor:
    """For each of the 256 bytes its eight bits as eight bools, held as one int64: one look-up unpacks eight neurons."""
    bits_256_8 = (torch.arange(256)[:, None] >> torch.arange(8)) & 1
    return bits_256_8.to(torch.uint8).contiguous().view(torch.int64).flatten().to(device)
