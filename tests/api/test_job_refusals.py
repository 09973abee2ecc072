"""Every way in which a job is refused: the code, the field, its value, what is allowed, what to do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from abcore.specs.codes import AREAS
from abcore.specs.refusals import Problem
from store.keys import create_key
from store.models import DEFAULT_PROJECT

HERE = Path(__file__).parent
Refusal = Callable[..., dict[str, Any]]
WRN = {"arch": "wide_resnet", "depth": 10, "width": 1}
CONV = {"type": "conv", "out_channels": 8}
WIDE = {"type": "conv", "out_channels": 16_384}
ANY = object()
"""A value that is not looked at: none, or too long to be written here."""


class Case(NamedTuple):
    """What is changed in a good job; and of the problem a part of `allowed`, and one of its message or hint."""

    code: str
    change: dict[str, Any]
    where: str
    value: Any
    allowed: str | None
    words: str


def layers(*listed: dict[str, Any]) -> dict[str, Any]:
    return {"student": {"arch": "layers", "layers": list(listed)}}


def zoo(name: str, **fields: Any) -> dict[str, Any]:
    return {"student": {"arch": "torchvision", "name": name, **fields}}


def student(**fields: Any) -> dict[str, Any]:
    return {"student": WRN | fields}


def recipe(**fields: Any) -> dict[str, Any]:
    return {"recipe": fields}


def finetune(**fields: Any) -> dict[str, Any]:
    return recipe(finetune=fields)


def taps(*names: str) -> dict[str, Any]:
    return recipe(taps={"student": list(names), "teacher": ["bn1"] * len(names)})


ONE_TAP = recipe(method={"name": "fsp"}, taps={"student": ["bn1"], "teacher": ["bn1"]})
NO_HEAD = zoo("squeezenet1_1") | finetune(dtl_weight=10)
UNKEPT = recipe(method={"name": "jacobian"}, teacher_source="cached")
TIMM = {"student": {"arch": "timm", "name": "resnet10"}}
LIMITS = {"arch": "auto", "family": "resnet", "max_params": 1000}
SEED = "recipe.seed"
HOT = "recipe.finetune.temperature"
TAP = "recipe.taps.student[0]"
CASES = [
    Case("request.extra_forbidden", {"studnet": 1}, "studnet", 1, "student", "Did you mean 'student'?"),
    Case("request.extra_forbidden", {"zzz": 1}, "zzz", 1, "dataset", "Remove it"),
    Case("request.extra_forbidden", student(widht=2), "student.widht", 2, "width", "mean 'width'?"),
    Case(
        "request.extra_forbidden",
        finetune(temprature=4),
        "recipe.finetune.temprature",
        4,
        "temperature",
        "mean",
    ),
    Case(
        "request.extra_forbidden",
        recipe(method={"margn": 1}),
        "recipe.method.margn",
        1,
        "margin",
        "'margin'?",
    ),
    Case(
        "request.extra_forbidden",
        layers(CONV | {"strid": 2}),
        "student.layers.0.strid",
        2,
        "stride",
        "'stride'?",
    ),
    Case(
        "request.missing",
        {"student": {"arch": "wide_resnet", "depth": 10}},
        "student.width",
        ANY,
        None,
        "Add",
    ),
    Case(
        "request.union_tag_invalid",
        student(arch="wide_resnt"),
        "student.arch",
        "wide_resnt",
        "wide_resnet",
        "",
    ),
    Case(
        "request.union_tag_invalid",
        recipe(method={"name": {}}),
        "recipe.method.name",
        ANY,
        "ab",
        "no kind has",
    ),
    Case("request.union_tag_not_found", {"student": {"depth": 10}}, "student.arch", ANY, "torchvision", ""),
    Case(
        "request.literal_error", recipe(precision="fp16"), "recipe.precision", "fp16", "bf16", "mean 'bf16'?"
    ),
    Case(
        "request.literal_error",
        {"outputs": {"formats": ["onnx", "onx-int8"]}},
        "outputs.formats.1",
        "onx-int8",
        "onnx-int8",
        "Did you mean",
    ),
    Case("request.value_error", student(depth=11), "student", ANY, None, "use 10 or 16"),
    Case(
        "request.value_error", recipe(transfer=None, finetune=None), "recipe", ANY, None, "at least one phase"
    ),
    Case("request.value_error", finetune(kd_weight=0), "recipe.finetune", ANY, None, "at least one must be"),
    Case("request.string_type", {"dataset": None}, "dataset", None, "string", ""),
    Case("request.string_too_short", {"labels": {"team": ""}}, "labels.team", "", "length >= 1", "at least"),
    Case("request.string_too_long", {"name": "x" * 201}, "name", "x" * 200 + "…", "length <= 200", "at most"),
    Case(
        "request.string_pattern_mismatch", zoo("Res Net"), "student.name", "Res Net", "^[a-z0-9_]{3,40}$", ""
    ),
    Case("request.int_type", {"priority": "high"}, "priority", "high", "integer", "valid integer"),
    Case("request.int_type", student(width=True), "student.width", True, "integer", "valid integer"),
    Case("request.int_type", student(width="1"), "student.width", "1", "integer", "valid integer"),
    Case("request.int_from_float", {"priority": 1.5}, "priority", 1.5, "integer", "fractional"),
    Case("request.float_type", finetune(temperature="hot"), HOT, "hot", "number", "valid number"),
    Case(
        "request.bool_type",
        recipe(augmentation={"horizontal_flip": 1}),
        "recipe.augmentation.horizontal_flip",
        1,
        "true",
        "valid boolean",
    ),
    Case("request.greater_than", finetune(temperature=0), HOT, 0, "> 0", "greater than"),
    Case("request.greater_than_equal", recipe(seed=-1), SEED, -1, ">= 0", "greater than"),
    Case("request.less_than", recipe(seed=2**31), SEED, 2**31, f"< {2**31}", "less than"),
    Case("request.less_than_equal", student(width=21), "student.width", 21, "<= 20", "less than"),
    Case("request.too_short", layers(), "student.layers", "[]", "length >= 1", ""),
    Case("request.too_long", layers(*[CONV] * 501), "student.layers", ANY, "length <= 500", ""),
    Case(
        "request.tuple_type", {"student": {"arch": "layers", "layers": 5}}, "student.layers", 5, "array", ""
    ),
    Case("request.dict_type", {"labels": 5}, "labels", 5, "object", ""),
    Case("request.model_attributes_type", {"recipe": 5}, "recipe", 5, "object", ""),
    Case("dataset.unknown", {"dataset": "dst_none"}, "dataset", "dst_none", None, "GET /v1/datasets"),
    Case("teacher.unknown", {"teacher": "tch_none"}, "teacher", "tch_none", None, "GET /v1/teachers"),
    Case("teacher.required", {"teacher": None}, "teacher", None, None, "train the student alone"),
    Case("architecture.unknown", zoo("resnet17"), "student.name", "resnet17", "resnet18", ""),
    Case("architecture.unknown", TIMM, "student.name", "resnet10", "resnet10t", ""),
    Case("architecture.image", zoo("inception_v3"), "dataset", "1x8x8", None, "larger images"),
    Case(
        "architecture.width", zoo("resnet18", width_mult=0.5), "student.width_mult", 0.5, "1.0", "mobilenet"
    ),
    Case(
        "architecture.no_small_stem", zoo("vgg11_bn", stem="small"), "student.stem", "small", "imagenet", ""
    ),
    Case("architecture.limits", {"student": LIMITS}, "student", LIMITS, ">= 11172810 parameters", "resnet18"),
    Case(
        "architecture.too_large",
        layers(WIDE, WIDE),
        "student",
        2416263178,
        f"<= {2**30} parameters",
        "narrower",
    ),
    Case("layers.name", layers(CONV, CONV | {"name": "conv1"}), "student.layers[1]", "conv1", None, "own"),
    Case("layers.shape", layers({"type": "flatten"}, CONV), "student.layers[1]", None, None, "flatten"),
    Case(
        "taps.none", layers({"type": "flatten"}, {"type": "activation"}), "student", None, None, "recipe.taps"
    ),
    Case("taps.not_found", taps("nowhere"), TAP, "nowhere", "block2.layer.0.relu1", "near names"),
    Case(
        "taps.ambiguous",
        zoo("resnet18") | taps("layer2.1.relu"),
        TAP,
        "layer2.1.relu",
        "layer2.1.relu#0",
        "from 0",
    ),
    Case(
        "taps.order",
        taps("bn1", "block2.layer.0.bn1"),
        "recipe.taps.student[1]",
        "block2.layer.0.bn1",
        None,
        "deep",
    ),
    Case("taps.not_a_map", taps("fc"), TAP, "fc", "relu", "channels x height x width"),
    Case(
        "taps.post_activation",
        zoo("resnet18") | taps("layer1"),
        TAP,
        "layer1",
        "layer1.1.relu#1",
        "pre-activation",
    ),
    Case(
        "plan.tap_weights",
        recipe(method={"name": "ab", "tap_weights": [1, 1]}),
        "recipe.method.tap_weights",
        [1.0, 1.0],
        "3 weights",
        "pairs",
    ),
    Case("fsp.channels", recipe(method={"name": "fsp"}), "recipe.method", "fsp", None, "width"),
    Case("fsp.one_tap", ONE_TAP, "recipe.taps", 1, ">= 2 pairs", "two taps"),
    Case("dtl.no_classifier", NO_HEAD, "recipe.finetune.dtl_weight", None, "0", "linear layer"),
    Case("teacher_source.impossible", UNKEPT, "recipe.teacher_source", "cached", "online", "auto"),
]
BODIES: dict[str, tuple[bytes, int]] = {
    "request.bad_request": (b'"\xff"', 400),
    "request.json_invalid": (b"{", 422),
    "request.finite_number": (b'{"recipe": {"finetune": {"temperature": NaN}}}', 422),
    "request.string_unicode": (b'{"name": "\\ud800"}', 422),
    "request.media_type": (b"{}", 415),
    "request.too_large": (b" " * (2**20 + 1), 413),
}

TOLD_ELSEWHERE = {
    "key.expired": ("test_envelope.py", '"key.expired"'),
    "request.rate": ("test_rates.py", '"request.rate"'),
    "request.slow": ("test_hygiene.py", '"request.slow"'),
    "idempotency.conflict": ("test_jobs.py", '"idempotency-conflict"'),
    "quota.queued_jobs": ("test_quotas.py", '"quota.queued_jobs"'),
}
"""Codes of every request, or of what several jobs do, with the test that has them told of POST /v1/jobs."""
OF_OTHER_THINGS = ("cursor.", "image.", "upload.", "import.", "blob.", "webhook.", "job.", "ensemble.")
NEVER_OF_A_JOB = {
    "key.last_admin",  # of keys
    *("request.not_found", "request.method_not_allowed", "not_found"),  # of paths
    *("request.range", "request.if_match"),  # of downloads
    # of queries, whose numbers and dates are texts
    *("request.int_parsing", "request.int_parsing_size", "request.float_parsing", "request.bool_parsing"),
    *("request.datetime_parsing", "request.datetime_from_date_parsing", "request.timezone_aware"),
    "request.invalid",  # stands for what pydantic may yet bring
    *("request.list_type", "request.model_type"),  # of other bodies: a job's has tuples and read objects
    *("in_use", "conflict", "quota.stored_bytes"),  # of what is there already
    *("unavailable", "internal", "database.away"),  # the service's own
    "architecture.unavailable",  # of servers without timm: tests/abcore/test_architectures_zoo.py
    "taps.not_reached",  # of a forward pass that data decides: a plan's taps are those of a recorded pass
    *("plan.images", "plan.classes"),  # a job says teacher.image and teacher.classes before it is planned
    "recipe.needs_teacher",  # of teachers that are trained here: a job says teacher.required
    *("teacher.auto", "teacher.normalization"),  # of new teachers
}


@pytest.fixture(scope="module")
def good(running: Any) -> dict[str, Any]:
    """A job that would be accepted."""
    teacher, dataset = running.ready("teacher"), running.ready("dataset")
    return {"teacher": teacher, "dataset": dataset, "student": WRN}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.code} {case.where}")
def test_a_job_that_cannot_work_is_refused_and_not_queued(
    service: Any, good: dict[str, Any], refusal: Refusal, case: Case
) -> None:
    newest = service.client.get("/v1/jobs?limit=1").json()["data"]
    problem = refusal(service.client.post("/v1/jobs", json=good | case.change), 422)
    assert (problem["code"], problem["where"]) == (case.code, case.where)
    if case.value is not ANY:
        assert problem["value"] == case.value
    if case.allowed is not None:
        assert case.allowed in problem["allowed"]
    assert case.words in f"{problem['message']} {problem['hint']}"
    assert problem["hint"], "it does not say what to do"
    assert service.client.get("/v1/jobs?limit=1").json()["data"] == newest


@pytest.mark.parametrize(("code", "content", "status"), [(code, *rest) for code, rest in BODIES.items()])
def test_a_body_that_no_job_can_be_read_from(
    client: httpx.Client, code: str, content: bytes, status: int
) -> None:
    media_type = "text/plain" if code == "request.media_type" else "application/json"
    answer = client.post("/v1/jobs", content=content, headers={"Content-Type": media_type})
    assert answer.status_code == status
    assert code in {problem["code"] for problem in answer.json()["errors"]}


def test_a_key_that_is_none_or_only_reads(service: Any, good: dict[str, Any], refusal: Refusal) -> None:
    for key, answer, code in (
        ("abd_none", (401, "unauthenticated"), "key.invalid"),
        (create_key(service.db, DEFAULT_PROJECT, "reader", ("read",))[1], (403, "forbidden"), "key.scope"),
    ):
        with service.client_of(key) as client:
            problem = refusal(client.post("/v1/jobs", json=good), *answer)
        assert (problem["code"], problem["where"]) == (code, "header.Authorization")


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


def test_a_job_s_refusal_by_every_code_has_a_test() -> None:
    """A code that is new is either told of a job by a test here, or said to be of something else."""
    here = {case.code for case in CASES} | set(BODIES)
    here |= {
        "key.invalid",
        "key.scope",
        "dataset.not_ready",
        "teacher.not_ready",
        "teacher.classes",
        "teacher.image",
        "outputs.unavailable",
    }
    told = here | set(TOLD_ELSEWHERE)
    known = set(AREAS["requests"]) | set(AREAS["specs"])
    other = {code for code in known if code.startswith(OF_OTHER_THINGS)} | NEVER_OF_A_JOB
    assert told <= known
    assert not told & other
    assert known - told == other, "add a Case for it, or say of what else it is told"
    for code, (file, words) in TOLD_ELSEWHERE.items():
        assert words in (HERE / file).read_text(), code
