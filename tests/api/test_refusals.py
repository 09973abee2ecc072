"""Every way in which a request is refused: the field, the value, what is allowed, what to do."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

Refusal = Callable[..., dict[str, Any]]
WRN = {"arch": "wide_resnet", "depth": 10, "width": 1}


@pytest.fixture(scope="module")
def good(running: Any) -> dict[str, Any]:
    """A job that would be accepted."""
    teacher, dataset = running.ready("teacher"), running.ready("dataset")
    return {"teacher": teacher, "dataset": dataset, "student": WRN}


MODEL = {
    "architecture": {"arch": "wide_resnet", "depth": 16, "width": 2},
    "image": {"channels": 1, "height": 8, "width": 8},
    "num_classes": 10,
}


@pytest.mark.parametrize(
    ("change", "where", "words"),
    [
        ({"normalization": {"mean": [0.5, 0.5], "std": [1, 1]}}, "normalization.mean", "1 channels"),
        ({"normalization": {"mean": [0.5], "std": [0]}}, "normalization.std.0", "greater than 0"),
        ({"normalization": {"mean": [0.5], "std": [1, 1]}}, "normalization", "one of each per channel"),
        (
            {"model": MODEL | {"architecture": {"arch": "torchvision", "name": "resnet17"}}},
            "model.architecture.name",
            "resnet17",
        ),
        (
            {"model": MODEL | {"architecture": {"arch": "auto", "family": "resnet", "max_params": 9}}},
            "model.architecture.arch",
            "auto",
        ),
        ({"model": MODEL | {"num_classes": 1}}, "model.num_classes", "greater than or equal to 2"),
        ({"model": {}}, "model.architecture", "required"),
        ({"name": ""}, "name", "at least 1"),
    ],
)
def test_a_teacher_that_no_checkpoint_fits_is_refused_before_the_upload(
    client: httpx.Client, change: dict[str, Any], where: str, words: str
) -> None:
    answer = client.post("/v1/teachers", json={"name": "t", "model": MODEL} | change)
    assert answer.status_code == 422
    problem = answer.json()["errors"][0]
    assert problem["where"] == where
    assert words in problem["message"]


@pytest.mark.parametrize(
    ("path", "where", "value", "allowed"),
    [
        ("/v1/jobs?limit=0", "query.limit", "0", ">= 1"),
        ("/v1/jobs?limit=101", "query.limit", "101", "<= 100"),
        ("/v1/jobs?limit=ten", "query.limit", "ten", None),
        ("/v1/jobs?state=runing", "query.state", "runing", "running"),
        ("/v1/jobs?stat=queued", "query.stat", "queued", "state"),
        ("/v1/teachers?page=2", "query.page", "2", "cursor"),
        ("/v1/jobs?cursor=nonsense", "query.cursor", None, None),
    ],
)
def test_a_query_that_is_wrong_is_named(
    client: httpx.Client, refusal: Refusal, path: str, where: str, value: str | None, allowed: str | None
) -> None:
    problem = refusal(client.get(path), 422)
    assert problem["where"] == where
    if value is not None:
        assert problem["value"] == value
    if allowed is not None:
        assert allowed in problem["allowed"]


@pytest.mark.parametrize(
    ("content", "media_type", "status", "where"),
    [
        (b"{", "application/json", 422, "body"),
        (b"", "application/json", 422, "body"),
        (b"[]", "application/json", 422, "body"),
        (b'"text"', "application/json", 422, "body"),
        (b'"\xff"', "application/json", 400, "body"),
        (b"[" * 200_000, "application/json", 400, "body"),
        (b'{"name": ' + b"9" * 5000 + b"}", "application/json", 400, "body"),
        (b'{"name": "d", "filename": "f"}', "text/plain", 415, "header.Content-Type"),
        (b'{"name": "d", "filename": "f"}', "multipart/form-data", 415, "header.Content-Type"),
        (
            b'{"name": "d", "filename": "f", "holdout_fraction": NaN}',
            "application/json",
            422,
            "holdout_fraction",
        ),
        (b'{"name": "\\ud800", "filename": "f"}', "application/json", 422, "name"),
    ],
)
def test_a_body_that_is_no_body_is_refused_and_never_a_fault(
    client: httpx.Client, content: bytes, media_type: str, status: int, where: str
) -> None:
    answer = client.post("/v1/datasets", content=content, headers={"Content-Type": media_type})
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert where in [problem["where"] for problem in answer.json()["errors"]]


@pytest.mark.parametrize(
    ("members", "where", "code"),
    [(["tch_none"], "members.1", "teacher.unknown"), ([], "members", "request.too_short")],
)
def test_an_ensemble_of_what_is_not_there(
    good: dict[str, Any], client: httpx.Client, refusal: Refusal, members: list[str], where: str, code: str
) -> None:
    body = {"name": "both", "members": [good["teacher"], *members]}
    problem = refusal(client.post("/v1/teachers/combine", json=body), 422)
    assert (problem["where"], problem["code"]) == (where, code)


def test_a_teacher_trained_on_what_is_not_there(client: httpx.Client, refusal: Refusal) -> None:
    body = {"name": "t", "dataset": "dst_none", "architecture": WRN}
    problem = refusal(client.post("/v1/teachers/train", json=body), 422)
    assert (problem["where"], problem["code"], problem["value"]) == ("dataset", "dataset.unknown", "dst_none")
