"""Large files in parts: cut anywhere, by however many processes, no part that had arrived is sent again."""

import hashlib
import os
import random
from pathlib import Path
from typing import Any

import pytest
from abdistill import Client
from abdistill.errors import ConnectionFailed
from abdistill.parts import _Sending, _Upload
from abdistill.uploads import LocalFile

from store import part_uploads
from store.blobs import read_joined

BLOCK = 2**20


@pytest.fixture(autouse=True)
def _everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abdistill.parts.PARTS_FROM_BYTES", 1)


def _write(path: Path, size: int) -> Path:
    with path.open("wb") as out:
        for start in range(0, size, BLOCK):
            out.write(os.urandom(min(BLOCK, size - start)))
    return path


def _begun(client: Client, file: LocalFile) -> dict[str, Any]:
    body = {"size_bytes": file.size_bytes, "sha256": file.sha256}
    return dict(client._transport.request("POST", "/v1/uploads", json=body, repeatable=True).json())


def _stored_sha256(backstage: Any, upload_id: str) -> str:
    digest = hashlib.sha256()
    keys = [part.blob_key for part in part_uploads.parts(backstage.db, upload_id)]
    for chunk in read_joined(backstage.blobs, keys):
        digest.update(chunk)
    return digest.hexdigest()


@pytest.mark.parametrize("size", [3_000_000, pytest.param(2**31, marks=pytest.mark.slow, id="2GiB")])
def test_a_file_that_is_cut_at_random_is_sent_to_its_end_and_no_part_twice(
    shaky: Client, proxy: Any, client: Client, backstage: Any, tmp_path: Path, size: int
) -> None:
    """Senders give up at a random byte, one after the other; the last one finishes."""
    path = _write(tmp_path / "large.npz", size)
    file = LocalFile.read(path)
    upload = _begun(client, file)
    num_parts = upload["num_parts"]

    def arrived() -> int:
        return len(part_uploads.parts(backstage.db, upload["id"]))

    chance = random.Random(7)
    dataset = client.datasets.create("d", path.name)
    shaky._transport.max_retries = 0
    for _ in range(6):
        before = arrived()
        proxy.requests.clear()
        proxy.cut(up=[chance.randrange(1000, size // 6)])
        with pytest.raises(ConnectionFailed):
            shaky.datasets.upload(dataset.id, path)
        new = arrived() - before
        assert new <= len(proxy.heads("PUT")) <= new + 1, "none but the one that was cut is to be sent again"
    left = num_parts - arrived()
    assert 0 < left < num_parts
    proxy.requests.clear()
    proxy.cut()
    assert shaky.datasets.upload(dataset.id, path).state == "pending"
    assert len(proxy.heads("PUT")) == left
    assert _stored_sha256(backstage, upload["id"]) == file.sha256
    proxy.requests.clear()
    other = client.datasets.create("e", path.name)
    shaky.datasets.upload(other.id, path)
    assert proxy.heads("PUT") == [], "the content is here"
    client._transport.request("DELETE", f"/v1/datasets/{other.id}")


def test_a_part_whose_answer_was_lost_is_asked_for_and_not_sent_again(
    shaky: Client, proxy: Any, client: Client, backstage: Any, file: Path
) -> None:
    local = LocalFile.read(file)
    upload = _Upload.model_validate(_begun(client, local))
    sending = _Sending(shaky._transport, local, upload, None)
    proxy.cut(down=[0])
    sending._send(1, sending._read(1))
    assert len(proxy.heads("PUT")) == 1
    sending.run()
    assert len(proxy.heads("PUT")) == upload.num_parts
