"""Connectors: the paper's initialisation, and resizing that loses no image content on the way."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from abcore.connectors import Connector, resize


def naive_order(connector: Connector, maps: Tensor, size: torch.Size) -> Tensor:
    """Convolution first, resize after, whatever the sizes."""
    normalised: Tensor = connector.bn(resize(connector.conv(maps), size))
    return normalised


@pytest.mark.parametrize("size", [(6, 6), (3, 3), (2, 4), (12, 12), (3, 12), (8, 4)])
def test_maps_arrive_in_the_teachers_shape_whichever_side_is_convolved(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    connector = Connector(5, 11).eval()
    maps = torch.randn(2, 5, 6, 6)
    connected = connector(maps, torch.Size(size))
    assert connected.shape == (2, 11, *size)
    assert torch.allclose(connected, naive_order(connector, maps, torch.Size(size)), atol=1e-5)


def test_weights_are_drawn_as_in_the_paper_and_there_is_no_bias() -> None:
    torch.manual_seed(0)
    connector = Connector(400, 128)
    assert connector.conv.bias is None
    assert connector.conv.weight.shape == (128, 400, 1, 1)
    assert float(connector.conv.weight.detach().std()) == pytest.approx(math.sqrt(2 / 128), rel=0.02)
    assert sum(p.numel() for p in connector.parameters()) == 400 * 128 + 2 * 128


def test_shrinking_averages_and_growing_interpolates() -> None:
    maps = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert torch.equal(resize(maps, torch.Size((2, 2))), avg_pool2d(maps, 2))
    flat = torch.full((1, 1, 3, 3), 7.0)
    assert torch.allclose(resize(flat, torch.Size((9, 9))), torch.full((1, 1, 9, 9), 7.0))
    assert resize(maps, torch.Size((4, 4))) is maps
