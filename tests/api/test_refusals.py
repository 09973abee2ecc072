"""Every way in which a request is refused: the field, the value, what is allowed, what to do."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from abcore.specs.refusals import Problem

Refusal = Callable[..., dict[str, Any]]
WRN = {"arch": "wide_resnet", "depth": 10, "width": 1}


@pytest.fixture(scope="module")
def good(running: Any) -> dict[str, Any]:
    """A job that would be accepted."""
    teacher, dataset = running.ready("teacher"), running.ready("dataset")
    return {"teacher": teacher, "dataset": dataset, "student": WRN}


# what is changed in a good body -> (where, value, something that is allowed, something in the hint or message)
WRONG: dict[str, tuple[dict[str, Any], str, Any, str | None, str]] = {
    "unknown field": ({"studnet": 1}, "studnet", 1, "student", "Did you mean 'student'?"),
    "unknown nested": ({"student": WRN | {"widht": 2}}, "student.widht", 2, "width", "Did you mean 'width'?"),
    "unknown deeper": (
        {"recipe": {"finetune": {"temprature": 4}}},
        "recipe.finetune.temprature",
        4,
        "temperature",
        "Did you mean 'temperature'?",
    ),
    "unknown, like nothing": ({"zzz": 1}, "zzz", 1, "dataset", "Remove it"),
    "unknown in a method": (
        {"recipe": {"method": {"name": "ab", "margn": 1}}},
        "recipe.method.margn",
        1,
        "margin",
        "Did you mean 'margin'?",
    ),
    "unknown in a layer": (
        {"student": {"arch": "layers", "layers": [{"type": "conv", "out_channels": 8, "strid": 2}]}},
        "student.layers.0.strid",
        2,
        "stride",
        "Did you mean 'stride'?",
    ),
    "family": (
        {"student": WRN | {"arch": "wide_resnt"}},
        "student.arch",
        "wide_resnt",
        "wide_resnet",
        "Did you mean",
    ),
    "no family": ({"student": {"depth": 10}}, "student.arch", None, "torchvision", "required"),
    "one of a list": (
        {"recipe": {"precision": "fp16"}},
        "recipe.precision",
        "fp16",
        "bf16",
        "Did you mean 'bf16'?",
    ),
    "above a limit": ({"student": WRN | {"width": 21}}, "student.width", 21, "<= 20", "less than"),
    "below a limit": ({"recipe": {"seed": -1}}, "recipe.seed", -1, ">= 0", "greater than"),
    "a limit's edge": (
        {"recipe": {"finetune": {"temperature": 0}}},
        "recipe.finetune.temperature",
        0,
        "> 0",
        "greater than",
    ),
    "too long": ({"name": "x" * 201}, "name", "x" * 200 + "…", "length <= 200", "at most"),
    "a pattern": (
        {"student": {"arch": "torchvision", "name": "Res Net"}},
        "student.name",
        "Res Net",
        "^[a-z0-9_]{3,40}$",
        "pattern",
    ),
    "a type": ({"priority": "high"}, "priority", "high", None, "integer"),
    "true for a number": ({"student": WRN | {"width": True}}, "student.width", True, None, "valid integer"),
    "a number as text": ({"student": WRN | {"width": "1"}}, "student.width", "1", None, "valid integer"),
    "a number for true": (
        {"recipe": {"augmentation": {"horizontal_flip": 1}}},
        "recipe.augmentation.horizontal_flip",
        1,
        None,
        "valid boolean",
    ),
    "a method that is named by an object": (
        {"recipe": {"method": {"name": {}}}},
        "recipe.method.name",
        None,
        "ab",
        "no kind has this tag",
    ),
    "null": ({"dataset": None}, "dataset", None, None, "string"),
    "a rule": ({"student": WRN | {"depth": 11}}, "student", None, None, "use 10 or 16"),
    "no phase": (
        {"recipe": {"transfer": None, "finetune": None}},
        "recipe",
        None,
        None,
        "at least one phase",
    ),
    "no loss": (
        {"recipe": {"finetune": {"kd_weight": 0}}},
        "recipe.finetune",
        None,
        None,
        "at least one must be above 0",
    ),
    "no such model": (
        {"student": {"arch": "torchvision", "name": "resnet17"}},
        "student.name",
        "resnet17",
        "resnet18",
        "",
    ),
    "no such tap": (
        {"recipe": {"taps": {"student": ["nowhere"], "teacher": ["bn1"]}}},
        "recipe.taps.student[0]",
        "nowhere",
        None,
        "",
    ),
    "a label": ({"labels": {"team": ""}}, "labels.team", "", "length >= 1", "at least"),
    "no such dataset": ({"dataset": "dst_none"}, "dataset", "dst_none", None, "GET /v1/datasets"),
    "no such teacher": ({"teacher": "tch_none"}, "teacher", "tch_none", None, "GET /v1/teachers"),
    "no such output": (
        {"outputs": {"formats": ["onnx", "onx-int8"]}},
        "outputs.formats.1",
        "onx-int8",
        "onnx-int8",
        "Did you mean",
    ),
    "no teacher": ({"teacher": None}, "teacher", None, None, "train the student alone"),
}


@pytest.mark.parametrize(("change", "where", "value", "allowed", "words"), WRONG.values(), ids=WRONG)
def test_a_job_that_cannot_work_is_refused_and_not_queued(
    service: Any,
    good: dict[str, Any],
    refusal: Refusal,
    change: dict[str, Any],
    where: str,
    value: Any,
    allowed: str | None,
    words: str,
) -> None:
    newest = service.client.get("/v1/jobs?limit=1").json()["data"]
    problem = refusal(service.client.post("/v1/jobs", json=good | change), 422)
    assert problem["where"] == where
    if value is not None:
        assert problem["value"] == value
    if allowed is not None:
        assert allowed in problem["allowed"]
    assert words in f"{problem['message']} {problem['hint']}"
    assert service.client.get("/v1/jobs?limit=1").json()["data"] == newest


def test_an_output_that_the_installation_cannot_make_is_refused(
    service: Any, good: dict[str, Any], refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxruntime" else object())
    for field in ("formats", "required"):
        body = good | {"outputs": {field: ["pt2", "onnx-int8"]}}
        problem = refusal(service.client.post("/v1/jobs", json=body), 422)
        assert (problem["code"], problem["where"]) == ("outputs.unavailable", f"outputs.{field}[1]")
        assert "needs onnxruntime" in problem["message"]
        assert problem["allowed"] == ["safetensors", "safetensors-fp16", "safetensors-bf16", "pt2"]
        assert "abdistill-server[export]" in problem["hint"]


def test_a_missing_field_is_named(client: httpx.Client, refusal: Refusal) -> None:
    problem = refusal(client.post("/v1/jobs", json={"student": WRN}), 422)
    assert (problem["where"], problem["message"]) == ("dataset", "this field is required")


def test_all_that_is_wrong_is_told_at_once(client: httpx.Client) -> None:
    answer = client.post("/v1/jobs", json={"student": WRN | {"width": 0}, "prioritty": 3})
    wrong = {problem["where"] for problem in answer.json()["errors"]}
    assert wrong == {"dataset", "student.width", "prioritty"}
    assert answer.json()["detail"].startswith("3 things are wrong")


@pytest.mark.parametrize("kind", ["teacher", "dataset"])
@pytest.mark.parametrize("state", ["pending", "invalid"])
def test_what_is_not_ready_is_not_used(
    service: Any, good: dict[str, Any], refusal: Refusal, kind: str, state: str
) -> None:
    id_ = service.create(kind)["id"]
    if state == "invalid":
        service.client.put(f"/v1/{kind}s/{id_}/content", content=b"garbage")
        service.reject(Problem(code="x", message="It is broken."))
    problem = refusal(service.client.post("/v1/jobs", json=good | {kind: id_}), 409, "not-ready")
    assert (problem["where"], problem["value"], problem["allowed"]) == (kind, state, ["ready"])
    assert f"GET /v1/{kind}s/{id_}" in problem["hint"]


def test_a_teacher_of_other_classes_is_refused_where_logits_are_compared(
    service: Any, good: dict[str, Any], refusal: Refusal, reports: Any
) -> None:
    body = good | {"dataset": service.ready("dataset", reports(num_classes=7))}
    problem = refusal(service.client.post("/v1/jobs", json=body), 422)
    assert (problem["where"], problem["value"], problem["allowed"]) == ("teacher", 10, ["7 classes"])
    # Boundaries are not classes: they can be learnt from such a teacher.
    body["recipe"] = {"finetune": {"kd_weight": 0, "cross_entropy_weight": 1, "dtl_weight": 10}}
    accepted = service.client.post("/v1/jobs", json=body)
    assert accepted.status_code == 201, accepted.text


@pytest.mark.parametrize(
    ("image", "hint"),
    [
        ({"channels": 1, "height": 16, "width": 16}, "image_size 8"),
        ({"channels": 3, "height": 8, "width": 8}, "again."),
    ],
)
def test_a_teacher_of_other_images_is_refused(
    service: Any, good: dict[str, Any], refusal: Refusal, reports: Any, image: dict[str, int], hint: str
) -> None:
    body = good | {"dataset": service.ready("dataset", reports(image=image))}
    problem = refusal(service.client.post("/v1/jobs", json=body), 422)
    assert problem["where"] == "dataset"
    assert problem["value"].startswith("x".join(str(number) for number in image.values()))
    assert problem["allowed"][0].startswith("1x8x8")
    assert hint in problem["hint"]


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
