"""The OpenAPI document as a whole: what it says besides what each route says of itself."""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI

from api.documentation import refusals
from api.schemas.base import ProblemDocument

DESCRIPTION = """Distillation as a service. Send a trained *teacher* checkpoint, a dataset, and the *student* that you
want; get back a student that has learnt where the teacher's activation boundaries lie (arXiv 1811.03233).

Every refusal is a problem document (RFC 9457) that names the field, what was wrong, and what is allowed; `GET` its
`type` for what it means."""

INFO: dict[str, Any] = {
    "title": "abdistill",
    "version": "0.1.0",
    "description": DESCRIPTION,
    "contact": {"name": "The operator of this service"},
    "license_info": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    "servers": [{"url": "/", "description": "This service"}],
    "openapi_tags": [
        {"name": "teachers", "description": "Trained networks that students learn from."},
        {"name": "datasets", "description": "Labelled images."},
        {"name": "uploads", "description": "Content of any size, in parts."},
        {
            "name": "jobs",
            "description": "Distillations: their state, figures and files.",
        },
        {"name": "sweeps", "description": "Jobs that differ in some fields."},
        {"name": "architectures", "description": "Which networks there are, and what one would be."},
        {"name": "recipes", "description": "Recipes to start from."},
        {"name": "webhooks", "description": "Who is told of changes of state."},
        {"name": "keys", "description": "Who may ask, and for what."},
        {"name": "usage", "description": "What a project has, and may have."},
        {"name": "problems", "description": "What the refusals of this service mean."},
        {"name": "health", "description": "Whether the service is there."},
    ],
}
_ID = "$response.body#/id"
# What an answer's schema holds that other operations take in their paths.
_LEADS_TO = {
    "Teacher": {"teacher_id": _ID},
    "Dataset": {"dataset_id": _ID},
    "UploadInParts": {"upload_id": _ID},
    "Job": {"job_id": _ID},
    "Sweep": {"sweep_id": _ID},
    "WebhookWithSecret": {"webhook_id": _ID},
    "KeyWithSecret": {"key_id": _ID},
    "Delivery": {"webhook_id": "$response.body#/webhook_id", "delivery_id": _ID},
}
_EXAMPLE_IDS = {
    "teacher_id": "tch_01KAQ8Z0V6M2Y6E9N1T4C7R5WB",
    "dataset_id": "dst_01KAQ8Z0V6M2Y6E9N1T4C7R5WB",
    "job_id": "job_01KAQ8Z0V6M2Y6E9N1T4C7R5WB",
    "sweep_id": "swp_01KAQ8Z0V6M2Y6E9N1T4C7R5WB",
    "webhook_id": "whk_01KAQ8Z0V6M2Y6E9N1T4C7R5WB",
    "delivery_id": "dlv_01KAQ8Z0V6M2Y6E9N1T4C7R5WB",
    "key_id": "key_01KAQ8Z0V6M2Y6E9N1T4C7R5WB",
    "upload_id": "up_01KAQ8Z0V6M2Y6E9N1T4C7R5WB",
}


def complete(app: FastAPI) -> None:
    """Add to the document what is the same for many operations; call it when all routes are there."""
    document = app.openapi()
    _add_problem_schema(document["components"]["schemas"])
    operations = list(_operations(document))
    for _, operation in operations:
        _add_refusals(operation)
        for parameter in operation.get("parameters", []):
            if parameter["name"] in _EXAMPLE_IDS:
                parameter.setdefault("example", _EXAMPLE_IDS[parameter["name"]])
    for _, operation in operations:
        _add_links(operation, operations)
    used = {tag for _, operation in operations for tag in operation["tags"]}
    document["tags"] = [tag for tag in document["tags"] if tag["name"] in used]


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """All operations, each with its path."""
    for path, methods in document["paths"].items():
        for operation in methods.values():
            yield path, operation


def _add_problem_schema(schemas: dict[str, Any]) -> None:
    """The schema that every route's errors refer to, which FastAPI has seen nowhere."""
    mine = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= mine.pop("$defs", {})
    schemas["ProblemDocument"] = mine


def _add_refusals(operation: dict[str, Any]) -> None:
    """What every operation can answer, and what every one that reads JSON can."""
    statuses = [500]
    if "application/json" in operation.get("requestBody", {}).get("content", {}):
        statuses += [400, 408, 413, 415]
    for status, answer in refusals(*statuses).items():
        operation["responses"].setdefault(str(status), answer)
    operation["responses"] = dict(sorted(operation["responses"].items()))


def _add_links(operation: dict[str, Any], operations: list[tuple[str, dict[str, Any]]]) -> None:
    """From an answer with a new object to every operation on that object."""
    for status in ("201", "202"):
        answer = operation["responses"].get(status, {})
        schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
        given = _LEADS_TO.get(schema.get("$ref", "").rsplit("/", 1)[-1], {})
        links = {
            other["operationId"]: {
                "operationId": other["operationId"],
                "parameters": {name: given[name] for name in wanted},
            }
            for path, other in operations
            if (wanted := _names_in(path)) and set(wanted) <= set(given)
        }
        if links:
            answer["links"] = links


def _names_in(path: str) -> list[str]:
    return [part.strip("{}") for part in path.split("/") if part.startswith("{")]
