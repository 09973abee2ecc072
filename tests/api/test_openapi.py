"""The OpenAPI document: what it says is true, and enough to write a client from."""

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel, TypeAdapter

from abcore import events as told
from abcore.specs.architectures import ModelSpec
from api.app import create_app
from api.schemas.base import ProblemDocument
from api.schemas.evaluations import EvaluationCreate
from api.schemas.jobs import JobClone, JobCreate, JobUpdate
from api.schemas.keys import KeyCreate, KeyRotate
from api.schemas.part_uploads import ContentChoice, UploadComplete, UploadCreate
from api.schemas.predictions import PredictionCreate
from api.schemas.sweeps import SweepCreate
from api.schemas.uploads import DatasetCreate, TeacherCombine, TeacherCreate, TeacherTrain
from api.schemas.webhooks import SecretRotate, WebhookCreate, WebhookUpdate
from store.keys import SCOPES
from store.settings import Settings

MODELS: dict[str, type[BaseModel]] = {
    "create_teacher": TeacherCreate,
    "train_teacher": TeacherTrain,
    "combine_teachers": TeacherCombine,
    "create_teacher_evaluation": EvaluationCreate,
    "create_dataset": DatasetCreate,
    "create_upload": UploadCreate,
    "complete_upload": UploadComplete,
    "choose_teacher_content": ContentChoice,
    "choose_dataset_content": ContentChoice,
    "create_job": JobCreate,
    "estimate_job": JobCreate,
    "predict": PredictionCreate,
    "update_job": JobUpdate,
    "clone_job": JobClone,
    "create_sweep": SweepCreate,
    "describe_architecture": ModelSpec,
    "create_key": KeyCreate,
    "rotate_key": KeyRotate,
    "create_webhook": WebhookCreate,
    "update_webhook": WebhookUpdate,
    "rotate_webhook_secret": SecretRotate,
}
OPEN = {"get_health", "get_readiness", "list_problem_types", "get_problem_type"}


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return create_app(Settings(data_dir=tmp_path_factory.mktemp("unused"))).openapi()


def operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in document["paths"].values():
        yield from path.values()


def named(document: dict[str, Any], operation_id: str) -> dict[str, Any]:
    return next(one for one in operations(document) if one["operationId"] == operation_id)


def examples_of(document: dict[str, Any], content: dict[str, Any]) -> list[Any]:
    schema = content["schema"]
    if "$ref" in schema:
        schema = schema | document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    return [*schema.get("examples", []), *([content["example"]] if "example" in content else [])]


def test_every_json_body_has_examples_that_its_own_model_takes(document: dict[str, Any]) -> None:
    seen = set()
    for operation in operations(document):
        content = operation.get("requestBody", {}).get("content", {})
        if "application/json" in content:
            examples = examples_of(document, content["application/json"])
            assert examples, f"{operation['operationId']} shows no example"
            for example in examples:
                MODELS[operation["operationId"]].model_validate(example)
            seen.add(operation["operationId"])
    assert seen == set(MODELS)


def test_every_refusal_is_documented_as_a_problem_with_an_example(document: dict[str, Any]) -> None:
    for operation in operations(document):
        if operation["operationId"] in OPEN:
            continue
        refusals = {s: r for s, r in operation["responses"].items() if s >= "400"}
        assert {"401", "403", "422"} <= set(refusals), operation["operationId"]
        for status, response in refusals.items():
            (content,) = response["content"].items()
            assert content[0] == "application/problem+json", (operation["operationId"], status)
            for example in examples_of(document, content[1]):
                ProblemDocument.model_validate(example)
            assert examples_of(document, content[1])


def test_examples_of_fields_are_values_that_the_field_takes(document: dict[str, Any]) -> None:
    count = 0
    for model in (
        TeacherCreate,
        TeacherTrain,
        TeacherCombine,
        DatasetCreate,
        JobCreate,
        SweepCreate,
        WebhookCreate,
        ProblemDocument,
    ):
        for field in model.model_fields.values():
            for example in field.examples or []:
                TypeAdapter(field.rebuild_annotation()).validate_python(example)
                count += 1
    assert count >= 6


def test_all_but_health_asks_for_a_bearer_key_and_says_of_which_scope(document: dict[str, Any]) -> None:
    (scheme,) = document["components"]["securitySchemes"].items()
    assert (scheme[1]["type"], scheme[1]["scheme"]) == ("http", "bearer")
    known = [[{scheme[0]: [scope]}] for scope in SCOPES]
    unguarded = {one["operationId"] for one in operations(document) if one.get("security") not in known}
    assert unguarded == OPEN


def test_references_lead_somewhere_and_names_can_be_read(document: dict[str, Any]) -> None:
    def references(part: Any) -> Iterator[str]:
        if isinstance(part, dict):
            yield from (part["$ref"] for _ in range(isinstance(part.get("$ref"), str)))
            for inner in part.values():
                yield from references(inner)
        elif isinstance(part, list):
            for inner in part:
                yield from references(inner)

    schemas = document["components"]["schemas"]
    assert {ref.rsplit("/", 1)[1] for ref in references(document)} <= set(schemas)
    assert {"JobPage", "TeacherPage", "ProblemDocument"} <= set(schemas)
    assert "HTTPValidationError" not in schemas  # FastAPI's own form of errors, which nobody is sent
    ids = [one["operationId"] for one in operations(document)]
    assert len(set(ids)) == len(ids)


def test_generators_of_clients_find_what_they_can_use(document: dict[str, Any]) -> None:
    """What makes them leave out a schema and all operations that use it; `make clients` has some do it."""
    schemas = document["components"]["schemas"]
    titles = [schema["title"] for schema in schemas.values()]
    assert len(set(titles)) == len(titles), "two schemas would be one class"
    for name, schema in schemas.items():
        for field, shown in schema.get("properties", {}).items():
            is_choice = "anyOf" in shown or "oneOf" in shown
            assert not (is_choice and isinstance(shown.get("default"), dict)), f"default of {name}.{field}"


def test_no_field_of_an_answer_may_be_missing(document: dict[str, Any]) -> None:
    for name in ("Job", "Teacher", "JobPage", "ProblemDocument"):
        schema = document["components"]["schemas"][name]
        assert set(schema["required"]) == set(schema["properties"]), name


def test_uploads_are_documented_as_raw_bodies(document: dict[str, Any]) -> None:
    for kind in ("teacher", "dataset"):
        operation = named(document, f"upload_{kind}")
        assert set(operation["requestBody"]["content"]) == {"application/octet-stream"}
        assert {p["name"] for p in operation["parameters"]} == {
            f"{kind}_id",
            "Content-Digest",
            "X-Content-SHA256",
        }


def test_every_operation_says_what_it_is_and_how_it_can_fail(document: dict[str, Any]) -> None:
    tags = {tag["name"] for tag in document["tags"]}
    for operation in operations(document):
        name = operation["operationId"]
        assert operation["summary"], name
        assert operation["description"], name
        assert set(operation["tags"]) <= tags, name
        assert "500" in operation["responses"], name
        if "application/json" in operation.get("requestBody", {}).get("content", {}):
            assert {"400", "413", "415"} <= set(operation["responses"]), name


def test_what_is_sent_has_limits_that_the_document_tells(document: dict[str, Any]) -> None:
    """Texts, lists and objects that a caller sends: each says how large it may be, or which values it may have."""
    bounds = {
        "string": {"enum", "const", "pattern", "maxLength", "format"},
        "array": {"maxItems"},
        "object": {"properties", "maxProperties"},
    }
    boundless, seen = [], set()

    def walk(schema: dict[str, Any], path: str) -> None:
        if "$ref" in schema and (name := schema["$ref"].rsplit("/", 1)[1]) not in seen:
            seen.add(name)
            walk(document["components"]["schemas"][name], name)
        kind = schema.get("type")
        if kind in bounds and not bounds[kind] & set(schema):
            boundless.append(path)
        for part in ("anyOf", "oneOf", "allOf"):
            for branch in schema.get(part, []):
                walk(branch, path)
        if "items" in schema:
            walk(schema["items"], f"{path}[]")
        for name, inner in schema.get("properties", {}).items():
            walk(inner, f"{path}.{name}")

    for operation in operations(document):
        for parameter in operation.get("parameters", []):
            if parameter["in"] == "query":
                walk(parameter["schema"], f"{operation['operationId']}?{parameter['name']}")
        for content in operation.get("requestBody", {}).get("content", {}).values():
            walk(content["schema"], operation["operationId"])
    assert len(seen) > 10
    assert not boundless


def test_an_answer_with_a_new_object_links_to_what_can_be_done_with_it(document: dict[str, Any]) -> None:
    links = named(document, "create_job")["responses"]["201"]["links"]
    assert {"get_job", "cancel_job", "stream_job", "list_job_artifacts"} <= set(links)
    known = {one["operationId"] for one in operations(document)}
    for operation in operations(document):
        for answer in operation["responses"].values():
            assert set(answer.get("links", {})) <= known


def test_types_of_events_are_a_list_that_the_document_shows(document: dict[str, Any]) -> None:
    types = [one.model_fields["type"].default for one in get_args(told.Happening)]
    listed = document["components"]["schemas"]["Event"]["properties"]["type"]["enum"]
    assert set(types) == {type_ for type_ in listed if not type_.startswith("job.")}
    asked = next(p for p in named(document, "list_job_events")["parameters"] if p["name"] == "type")
    assert asked["schema"]["items"]["enum"] == listed
