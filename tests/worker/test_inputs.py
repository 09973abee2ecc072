"""What a verification is given to read."""

import hashlib

import pytest

from store import datasets, leases, part_uploads
from store.blobs import Blob
from store.models import DEFAULT_PROJECT
from worker.cache import InputCache
from worker.inputs import InputMissing, lay_out
from worker.workspace import Workspaces

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
PARTS = (b"the beginning, ", b"and the end")
SHA256 = hashlib.sha256(b"".join(PARTS)).hexdigest()


@pytest.fixture
def keys(house) -> list[str]:
    """Where the parts are of which a dataset is made whose verification is queued."""
    size = sum(map(len, PARTS))
    upload, _ = part_uploads.create(
        house.db, DEFAULT_PROJECT, size_bytes=size, part_bytes=len(PARTS[0]), sha256=None, keep_seconds=60.0
    )
    keys = []
    for number, content in enumerate(PARTS, 1):
        key = f"uploads/{upload.id}/{number}/1"
        blob = Blob(key, house.put(key, content), len(content))
        part_uploads.add_part(house.db, DEFAULT_PROJECT, upload.id, number, blob, 60.0)
        keys.append(key)
    part_uploads.complete(house.db, DEFAULT_PROJECT, upload.id, SHA256, keys, 60.0)
    dataset = datasets.create(house.db, DEFAULT_PROJECT, name="d", filename="d.npz")
    datasets.attach_parts(house.db, DEFAULT_PROJECT, dataset.id, upload.id, 60.0)
    return keys


def _lay_out(house):
    lease = leases.claim(house.db, "tests", 60.0)
    workspace = Workspaces(house.folder / "workspaces", "wrk_tests").create("one")
    cache = InputCache(house.folder / "cache", 2**20)
    return workspace, lay_out(house.db, house.blobs, cache, lease, workspace)


def test_parts_are_read_as_one_file_and_stay(house, keys: list[str]) -> None:
    workspace, to_forget = _lay_out(house)
    assert (workspace.inputs / "upload").read_bytes() == b"".join(PARTS)
    assert to_forget is None
    assert all(house.blobs.exists(key) for key in keys)


def test_a_damaged_part_is_not_read(house, keys: list[str]) -> None:
    house.put(keys[1], b"and the END")
    with pytest.raises(InputMissing, match=SHA256):
        _lay_out(house)
