"""Content that is imported: asked for over HTTP, where the operator allows it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from store.settings import Settings

Refused = Callable[..., dict[str, Any]]


@pytest.mark.parametrize("kind", ["dataset", "teacher"])
def test_nothing_is_imported_unless_the_operator_says_so(service: Any, refusal: Refused, kind: str) -> None:
    path = f"/v1/{kind}s/{service.create(kind)['id']}/content"
    problem = refusal(service.client.post(path, json={"source": "file:///etc/passwd"}), 422)
    assert problem["code"] == "import.not_allowed"
    assert (problem["where"], problem["value"], problem["allowed"]) == ("source", "file:///etc/passwd", [])
    for body in ({}, {"upload": "up_1", "source": "s3://a/b"}):
        assert "either upload or source" in refusal(service.client.post(path, json=body), 422)["message"]


def test_a_source_is_content_like_any(serve: Any, tmp_path: Path, refusal: Refused) -> None:
    place = (tmp_path / "shelf").as_uri()
    with serve(Settings(data_dir=tmp_path / "data", import_from=f"{place},s3://lab/in")) as service:
        created = service.create("dataset")
        assert created["source"] is None
        path = f"/v1/datasets/{created['id']}/content"
        elsewhere = refusal(service.client.post(path, json={"source": "s3://lab/out"}), 422)
        assert elsewhere["allowed"] == [f"{place}/...", "s3://lab/in/..."]
        for _ in range(2):
            answer = service.client.post(path, json={"source": "s3://lab/in/d.npz"})
            assert (answer.status_code, answer.json()["source"]) == (202, "s3://lab/in/d.npz")
        assert service.claim().job.dataset_id == created["id"]
        for other in (
            service.client.post(path, json={"source": f"{place}/d.npz"}),
            service.client.put(path, content=b"another"),
        ):
            assert refusal(other, 409, "already-uploaded")["code"] == "upload.exists"
