"""Images that are equal in every pixel: within a split, across splits, and under more than one label."""

import hashlib
from collections.abc import Mapping
from itertools import combinations

import numpy as np
import numpy.typing as npt

from abcore.data.dataset import SPLITS, Split
from abcore.specs.reports import Duplicates, ImagePlace

_MOST_EXAMPLES = 5
_MOST_PLACES = 4


def find_duplicates(splits: Mapping[str, Split]) -> Duplicates:
    """Compare all images of a dataset by a digest of their pixels."""
    names = [name for name in SPLITS if name in splits]
    digests_N2 = np.concatenate([_digests(splits[name]) for name in names])
    split_N = np.repeat(np.arange(len(names)), [len(splits[name]) for name in names])
    index_N = np.concatenate([np.arange(len(splits[name])) for name in names])
    label_N = np.concatenate([splits[name].labels.numpy() for name in names])
    order_N = np.lexsort((index_N, split_N, digests_N2[:, 1], digests_N2[:, 0]))
    sorted_N2 = digests_N2[order_N]
    is_first_N = np.concatenate([[True], (sorted_N2[1:] != sorted_N2[:-1]).any(1)])
    starts_G = np.flatnonzero(is_first_N)  # G groups of equal images
    group_N = np.cumsum(is_first_N) - 1
    counts_SG = np.zeros((len(names), len(starts_G)), dtype=np.int64)
    np.add.at(counts_SG, (split_N[order_N], group_N), 1)
    labels_N = label_N[order_N]
    conflicts_G = np.minimum.reduceat(labels_N, starts_G) != np.maximum.reduceat(labels_N, starts_G)
    shared_G = (counts_SG > 0).sum(0) > 1
    ends_G = np.append(starts_G[1:], len(order_N))
    shown = [*np.flatnonzero(conflicts_G), *np.flatnonzero(shared_G & ~conflicts_G)][:_MOST_EXAMPLES]
    return Duplicates(
        within={name: int((counts_SG[s] - 1).clip(0).sum()) for s, name in enumerate(names)},
        across={
            f"{names[a]}+{names[b]}": int(((counts_SG[a] > 0) & (counts_SG[b] > 0)).sum())
            for a, b in combinations(range(len(names)), 2)
        },
        other_label=int(conflicts_G.sum()),
        examples=tuple(
            tuple(
                ImagePlace(split=names[split_N[n]], index=int(index_N[n]), label=int(label_N[n]))
                for n in _spread(order_N[starts_G[g] : ends_G[g]], label_N, split_N)
            )
            for g in shown
        ),
    )


def _spread(
    places: npt.NDArray[np.int64], labels: npt.NDArray[np.int64], splits: npt.NDArray[np.int64]
) -> list[int]:
    """A few of a group's images: one of each label and split first, so that an example shows why it is one."""
    seen: dict[tuple[int, int], int] = {}
    for place in places.tolist():
        seen.setdefault((int(labels[place]), int(splits[place])), place)
    return list(seen.values())[:_MOST_PLACES]


def _digests(split: Split) -> npt.NDArray[np.uint64]:
    """(N, 2) uint64, 128 bits an image."""
    images = np.ascontiguousarray(split.images.numpy())
    digests = b"".join(hashlib.blake2b(image, digest_size=16).digest() for image in images)
    return np.frombuffer(digests, dtype=np.uint64).reshape(-1, 2)
