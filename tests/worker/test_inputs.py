"""What a verification is given to read."""

import hashlib

import pytest

from store import datasets, leases, part_uploads, quotas
from store.blobs import Blob
from store.models import DEFAULT_PROJECT
from worker.inputs import InputMissing, lay_out
from worker.workshop import Workshop
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
    workshop = Workshop.open(house.settings)
    workspace = Workspaces(house.folder / "workspaces", "wrk_tests").create("one")
    try:
        return workspace, lay_out(workshop, lease, workspace)
    finally:
        workshop.close()


def test_parts_are_read_as_one_file_and_stay(house, keys: list[str]) -> None:
    workspace, to_forget = _lay_out(house)
    assert (workspace.inputs / "upload").read_bytes() == b"".join(PARTS)
    assert to_forget is None
    assert all(house.blobs.exists(key) for key in keys)


def test_a_damaged_part_is_not_read(house, keys: list[str]) -> None:
    house.put(keys[1], b"and the END")
    with pytest.raises(InputMissing, match=SHA256):
        _lay_out(house)


@pytest.fixture
def source(house) -> str:
    """The address of a file that may be imported."""
    path = house.folder / "shelf" / "d.npz"
    path.parent.mkdir()
    path.write_bytes(b"".join(PARTS))
    house.settings = house.settings.model_copy(update={"import_from": path.parent.as_uri()})
    return path.as_uri()


def _announced(house, source: str) -> str:
    dataset = datasets.create(house.db, DEFAULT_PROJECT, name="d", filename="d.npz")
    return datasets.attach_source(house.db, DEFAULT_PROJECT, dataset.id, source).id


def test_what_is_imported_is_read_and_recorded(house, source: str) -> None:
    dataset_id = _announced(house, source)
    assert datasets.attach_source(house.db, DEFAULT_PROJECT, dataset_id, source).upload_sha256 is None
    workspace, to_forget = _lay_out(house)
    assert (workspace.inputs / "upload").read_bytes() == b"".join(PARTS)
    assert to_forget is None
    row = datasets.get(house.db, DEFAULT_PROJECT, dataset_id)
    assert (row.upload_sha256, row.upload_bytes) == (SHA256, len(b"".join(PARTS)))
    assert leases.claim(house.db, "tests", 60.0) is None, "asked for twice, and verified once"


@pytest.mark.parametrize(
    "reason", ["import.missing", "import.too_large", "import.not_allowed", "quota.stored_bytes"]
)
def test_what_cannot_be_imported_makes_the_row_invalid_at_once(house, source: str, reason: str) -> None:
    dataset_id = _announced(house, source + "x" if reason == "import.missing" else source)
    changed = {"import.too_large": {"max_upload_bytes": 5}, "import.not_allowed": {"import_from": ""}}
    if reason == "quota.stored_bytes":
        used = quotas.usage(house.db, DEFAULT_PROJECT)["stored_bytes"].used
        quotas.set_limits(house.db, DEFAULT_PROJECT, {"stored_bytes": used + 5})
    with house.shift("quick", **changed.get(reason, {})) as shift:
        shift.work()
    row = datasets.get(house.db, DEFAULT_PROJECT, dataset_id)
    assert row.state == "invalid"
    assert [problem["code"] for problem in row.problems] == [reason]
    assert house.starts() == [], "no child has seen it"
