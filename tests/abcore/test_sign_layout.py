"""Signs in bits and back."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from abcore.sign_layout import SignLayout

SHAPES = st.lists(st.tuples(*(st.integers(1, 6),) * 3), min_size=1, max_size=3)


@settings(max_examples=60, deadline=None)
@given(shapes=SHAPES, batch_size=st.integers(1, 5), channels_last=st.booleans(), seed=st.integers(0, 99))
def test_what_is_packed_comes_back(
    shapes: list[tuple[int, int, int]], batch_size: int, channels_last: bool, seed: int
) -> None:
    layout = SignLayout(tuple(shapes), channels_last)
    generator = torch.Generator().manual_seed(seed)
    preacts = [torch.randn(batch_size, *shape, generator=generator) for shape in shapes]
    preacts[0][0, 0, 0, 0] = 0.0  # zero is not above zero
    packed = layout.pack(preacts)
    assert packed.shape == (batch_size, layout.row_bytes)
    assert packed.dtype == torch.uint8
    for preact, on in zip(preacts, layout.unpack(packed), strict=True):
        assert on.dtype == torch.bool
        assert torch.equal(on, preact > 0)


def test_a_row_of_the_papers_setting_is_a_thirty_second_of_its_floats() -> None:
    layout = SignLayout(((64, 32, 32), (128, 16, 16), (256, 8, 8)))
    assert layout.row_bytes == 14_336
    assert 4 * sum(c * h * w for c, h, w in layout.shapes) == 32 * 14_336


@pytest.mark.parametrize("channels_last", [False, True])
def test_signs_lie_as_the_maps_that_they_are_compared_with(channels_last: bool) -> None:
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    preact = torch.randn(3, 8, 4, 4).contiguous(memory_format=memory_format)
    layout = SignLayout(((8, 4, 4),), channels_last)
    (on,) = layout.unpack(layout.pack([preact]))
    assert on.stride() == preact.stride()
