"""Batches: who is in them, in which order, and what augmentation does to each image, by (seed, view, index) alone."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from abcore.data.augmentation import augment
from abcore.data.batches import Batch, Feed, View
from abcore.data.dataset import Split
from abcore.specs.architectures import Normalization
from abcore.specs.recipes import Augmentation, num_batches

CPU = torch.device("cpu")
PLAIN = Normalization(mean=(0.0,), std=(1.0,))
STILL = Augmentation(crop_padding=0, horizontal_flip=False)


def _split(num_images: int, channels: int = 1, height: int = 6, width: int = 5) -> Split:
    images = torch.randint(
        0, 256, (num_images, channels, height, width), generator=torch.Generator().manual_seed(3)
    )
    return Split(images.to(torch.uint8), torch.arange(num_images))


def _feed(
    split: Split,
    *,
    seed: int = 0,
    augmentation: Augmentation = STILL,
    normalization: Normalization = PLAIN,
    device: torch.device = CPU,
) -> Feed:
    return Feed(
        {"train": split},
        device=device,
        normalization=normalization,
        augmentation=augmentation,
        view_seed=seed,
    )


def _batches(
    split: Split,
    *,
    seed: int = 0,
    view: int = 0,
    augmentation: Augmentation = Augmentation(crop_padding=2),  # noqa: B008  # frozen
    device: torch.device = CPU,
    **changes: Any,
) -> list[Batch]:
    order: dict[str, Any] = {"batch_size": 4, "order_seed": 0, **changes}
    feed = _feed(split, seed=seed, augmentation=augmentation, device=device)
    return list(feed.shuffled(View("train", view), **order))


def _views(split: Split, **changes: Any) -> dict[int, Tensor]:
    """The augmented image of every index that an epoch shows."""
    return {
        int(i): view
        for views, _, index, *_ in _batches(split, **changes)
        for i, view in zip(index, views, strict=True)
    }


@settings(max_examples=60, deadline=None)
@given(
    num_images=st.integers(1, 40),
    batch_sizes=st.tuples(st.integers(1, 45), st.integers(1, 45)),
    seed=st.integers(0, 2**31 - 1),
    view=st.integers(0, 10_000),
    padding=st.integers(0, 9),
)
def test_a_view_depends_on_seed_number_and_index_and_not_on_the_batch(
    num_images: int, batch_sizes: tuple[int, int], seed: int, view: int, padding: int
) -> None:
    split = _split(num_images)
    augmentation = Augmentation(crop_padding=padding)
    one, other = (
        _views(split, batch_size=size, order_seed=size, seed=seed, view=view, augmentation=augmentation)
        for size in batch_sizes
    )
    for index in one.keys() & other.keys():
        assert torch.equal(one[index], other[index])


@settings(max_examples=60, deadline=None)
@given(num_images=st.integers(1, 40), batch_size=st.integers(1, 20), start_step=st.integers(0, 45))
def test_an_epoch_that_goes_on_at_a_step_is_the_rest_of_the_whole_one(
    num_images: int, batch_size: int, start_step: int
) -> None:
    split = _split(num_images)
    whole = _batches(split, batch_size=batch_size)
    rest = _batches(split, batch_size=batch_size, start_step=start_step)
    assert len(rest) == max(0, len(whole) - start_step)
    for (images, labels, index, *_), (again, labels_again, index_again, *_) in zip(
        whole[start_step:], rest, strict=True
    ):
        assert torch.equal(images, again)
        assert torch.equal(labels, labels_again)
        assert torch.equal(index, index_again)


def _reference_view(image_CHW: Tensor, view_CHW: Tensor, padding: int) -> list[tuple[int, int, bool]]:
    """All (top, left, flipped) that make the view of the image, found by trying; in the plainest way."""
    _, height, width = image_CHW.shape
    padded = torch.zeros(image_CHW.shape[0], height + 2 * padding, width + 2 * padding, dtype=image_CHW.dtype)
    padded[:, padding : padding + height, padding : padding + width] = image_CHW
    return [
        (top, left, flipped)
        for top in range(2 * padding + 1)
        for left in range(2 * padding + 1)
        for flipped in (False, True)
        for crop in [padded[:, top : top + height, left : left + width]]
        if torch.equal(crop.flip(2) if flipped else crop, view_CHW)
    ]


def test_each_view_is_a_crop_of_the_padded_image_perhaps_flipped_and_all_of_them_occur_equally() -> None:
    padding, num_images = 2, 6000
    split = _split(num_images, channels=3)
    views = augment(
        split.images, torch.arange(num_images), Augmentation(crop_padding=padding), seed=5, view=9
    )
    assert views.dtype == torch.uint8
    counts: dict[tuple[int, int, bool], int] = {}
    for image, view in zip(split.images, views, strict=True):
        (found,) = _reference_view(image, view, padding)
        counts[found] = counts.get(found, 0) + 1
    assert len(counts) == 5 * 5 * 2
    expected = num_images / len(counts)
    chi_squared = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi_squared < 94  # 49 degrees of freedom: one in 10,000 honest generators would exceed it


def test_draws_of_neighbours_epochs_and_seeds_are_not_related() -> None:
    """A counter-based generator that mixes too little repeats itself along its counters."""
    index = torch.arange(20_000)
    ones = torch.tensor([0, 1], dtype=torch.uint8).expand(len(index), 1, 1, 2)
    flip = Augmentation(crop_padding=0)

    def flipped(seed: int, view: int) -> Tensor:
        return augment(ones, index, flip, seed=seed, view=view)[:, 0, 0, 0].bool()

    base = flipped(0, 0)
    assert abs(base.float().mean() - 0.5) < 0.02
    for other in (
        flipped(0, 1),
        flipped(1, 0),
        flipped(1, 1),
        flipped(2**31 - 1, 0),
        base.roll(1),
        base.roll(256),
    ):
        assert abs((base == other).float().mean() - 0.5) < 0.02


def test_without_padding_and_flip_the_images_are_as_they_were() -> None:
    split = _split(8)
    views = _views(split, augmentation=STILL)
    for index, view in views.items():
        assert torch.equal((view * 255).round().to(torch.uint8), split.images[index])


def test_images_that_are_not_contiguous_are_augmented_all_the_same() -> None:
    split = _split(8, channels=3)
    last = split.images.to(memory_format=torch.channels_last)
    index, augmentation = torch.arange(8), Augmentation(crop_padding=1)
    assert torch.equal(
        augment(last, index, augmentation, seed=1, view=1),
        augment(split.images, index, augmentation, seed=1, view=1),
    )


def test_an_epoch_shows_each_image_once_and_drops_the_incomplete_batch() -> None:
    shown = torch.cat([index for _, _, index, *_ in _batches(_split(11), batch_size=4)])
    assert len(shown) == 8
    assert len(shown.unique()) == 8
    assert num_batches(11, 4) == 2


@pytest.mark.parametrize("together", [2, 3, 7])
@pytest.mark.parametrize("start_step", [0, 2])
def test_batches_that_are_made_together_are_those_made_one_by_one(
    monkeypatch: pytest.MonkeyPatch, together: int, start_step: int
) -> None:
    """As on a GPU; where several processes have a share of each, too."""
    split = _split(23, channels=3)

    def first_two(index_B: Tensor) -> tuple[Tensor, float]:
        return index_B[:2], 0.5

    order: dict[str, Any] = {"start_step": start_step, "share": first_two}
    one_by_one = _batches(split, **order)
    monkeypatch.setattr(Feed, "_batches_at_once", lambda *_: together)
    for ours, theirs in zip(_batches(split, **order), one_by_one, strict=True):
        assert torch.equal(ours.images, theirs.images)
        assert torch.equal(ours.labels, theirs.labels)
        assert torch.equal(ours.indices, theirs.indices)
        assert (ours.view, ours.share) == (theirs.view, theirs.share)


def test_a_split_smaller_than_a_batch_is_one_batch() -> None:
    ((images, labels, index, *_),) = _batches(_split(3), batch_size=64)
    assert images.shape == (3, 1, 6, 5)
    assert sorted(index.tolist()) == sorted(labels.tolist()) == [0, 1, 2]
    assert num_batches(3, 64) == 1


def test_order_follows_its_seed_and_not_the_view() -> None:
    def order(**changes: int) -> list[int]:
        return [int(i) for _, _, index, *_ in _batches(_split(40), **changes) for i in index]

    assert order() == order()
    assert order() == order(seed=1, view=1)
    assert len({tuple(order(order_seed=seed)) for seed in range(9)}) == 9
    assert order() != sorted(order())


def test_labels_and_indices_belong_to_their_images() -> None:
    split = _split(12)
    for images, labels, index, *_ in _batches(split, augmentation=STILL):
        assert torch.equal((images * 255).round().to(torch.uint8), split.images[index])
        assert torch.equal(labels, split.labels[index])


def test_normalisation_is_pixel_by_255_minus_mean_by_std_a_channel() -> None:
    split = _split(4, channels=3)
    normalization = Normalization(mean=(0.1, 0.5, 0.9), std=(0.2, 0.3, 0.4))
    ((images, _, index, *_),) = list(_feed(split, normalization=normalization).in_order(View("train")))
    mean, std = (
        torch.tensor(x, dtype=torch.float64).view(3, 1, 1) for x in (normalization.mean, normalization.std)
    )
    expected = (split.images[index].double() / 255 - mean) / std
    assert images.dtype == torch.float32
    torch.testing.assert_close(images.double(), expected, rtol=1e-6, atol=1e-6)


def test_evaluation_sees_every_image_once_in_order_the_last_incomplete_batch_included() -> None:
    split = _split(700)
    index = torch.cat([batch.indices for batch in _feed(split).in_order(View("train"))])
    assert torch.equal(index, torch.arange(700))


@pytest.mark.parametrize(
    ("most_images", "expected"), [(4, [0, 5, 10, 15]), (20, [*range(20)]), (99, [*range(20)])]
)
def test_a_part_of_an_evaluation_is_spread_evenly(most_images: int, expected: list[int]) -> None:
    seen = _feed(_split(20)).in_order(View("train"), most_images)
    index = torch.cat([batch.indices for batch in seen])
    assert index.tolist() == expected


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_sees_the_same_views() -> None:
    split = _split(64, channels=3)
    for here, there in zip(_batches(split), _batches(split, device=torch.device("cuda:0")), strict=True):
        assert torch.equal(here.indices, there.indices)
        assert torch.equal(here.labels, there.labels.cpu())
        torch.testing.assert_close(here.images, there.images.cpu(), rtol=1e-6, atol=1e-6)
