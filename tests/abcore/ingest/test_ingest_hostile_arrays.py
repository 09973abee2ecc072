"""Arrays larger than a dataset may be, and what is said of idx files that are missing. (More: tests/hostile.)"""

import gzip
import zipfile
from typing import Any

import pytest
from hostile.corpus.arrays import idx_files


@pytest.mark.parametrize("rank", [2, 3])
def test_arrays_of_more_bytes_than_accepted_are_not_read(forge: Any, room: Any, rank: int) -> None:
    """Zeros compress a thousandfold; the sum over all arrays is what counts."""
    most = 10_000
    files = {f"{name}.npy": _npy_of_zeros(forge, 9_000) for name in ("images", "x_test")[: rank - 1]}
    files["images.npy"] = _npy_of_zeros(forge, 9_000 if rank == 3 else 20_000)
    upload = forge.zip(files, zipfile.ZIP_DEFLATED)
    assert room.refuse_dataset(upload, max_bytes=most).code == "dataset.too_large"


def _npy_of_zeros(forge: Any, size: int) -> bytes:
    return bytes(
        forge.npy(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({size}, 1, 1)}}", bytes(size))
    )


def test_a_gzip_bomb_in_an_idx_file_is_refused(forge: Any, room: Any) -> None:
    bomb = gzip.compress(bytes(30 * 2**20))
    upload = forge.zip(idx_files(forge) | {"train-images-idx3-ubyte": bomb})
    assert room.refuse_dataset(upload, max_bytes=2**20).code == "dataset.too_large"


def test_an_idx_file_larger_than_accepted_is_not_read(forge: Any, room: Any) -> None:
    assert room.refuse_dataset(forge.zip(idx_files(forge)), max_bytes=100).code == "dataset.too_large"


@pytest.mark.parametrize(
    ("absent", "said"),
    [("train-labels-idx1-ubyte", "train labels"), ("t10k-images-idx3-ubyte", "test images")],
)
def test_a_missing_idx_file_is_named(forge: Any, room: Any, absent: str, said: str) -> None:
    files = {name: body for name, body in idx_files(forge).items() if name != absent}
    problem = room.refuse_dataset(forge.zip(files))
    assert (problem.code, said in problem.message) == ("idx.incomplete", True)
