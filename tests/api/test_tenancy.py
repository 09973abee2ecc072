"""Every operation of the OpenAPI document, walked with the wrong keys: another project's, one of too few scopes, none.

The walks read the document, so an operation that is new is walked by itself; one on a new kind of object fails here
until `world` makes such an object.
"""

import copy
import hashlib
import hmac
import json
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import httpx
import pytest
from plugins.students import student_file

from store import keys
from store.keys import SCOPES, create_key, revoke_key, rotate_key
from store.models import DEFAULT_PROJECT

Refusal = Callable[..., dict[str, Any]]
World = dict[str, Any]
SHARED = {"list_architectures", "describe_architecture", "list_recipes", "get_recipe"}
"""The same for every project."""
HARMLESS = {"estimate_job", "describe_architecture", "predict"}
"""Ask by POST, and change nothing."""
NOT_SHOWN = {"stream_job", "compare_jobs", "download_dataset_samples", "list_keys", "list_audit"}
"""Do not end, need more, or tell when keys were used, and for what."""
REFERENCES = {"teacher": "teacher_id", "dataset": "dataset_id", "jobs": "job_id", "sweep": "sweep_id"}
"""Names of fields and parameters that hold an id, and which."""
HOOK = {"url": "https://203.0.114.7/", "events": ["job.failed"]}


class Operation(NamedTuple):
    """One of the document."""

    path: str
    method: str
    told: dict[str, Any]

    @property
    def id(self) -> str:
        return str(self.told["operationId"])

    @property
    def has_id(self) -> bool:
        return "{" in self.path

    @property
    def scope(self) -> str:
        (needed,) = self.told["security"]
        ((scope,),) = needed.values()
        return str(scope)

    def send(self, client: httpx.Client, ids: World, body: Any = None, **options: Any) -> httpx.Response:
        if "application/json" in self.told.get("requestBody", {}).get("content", {}):
            options["json"] = {} if body is None else body
        elif "requestBody" in self.told:
            options["content"] = b"x"
        return client.request(self.method, self.path.format(**ids), **options)


def operations(service: Any) -> Iterator[Operation]:
    for path, methods in service.app.openapi()["paths"].items():
        yield from (Operation(path, method, told) for method, told in methods.items())


def guarded(service: Any) -> list[Operation]:
    """Those that ask for a key; `test_openapi` lists the few that do not."""
    found = [one for one in operations(service) if "security" in one.told]
    assert len(found) > 50
    return found


def world(service: Any) -> World:
    """One object of every kind, by the names that paths give their ids."""
    job = service.submit()
    lease = service.claim()
    service.succeed(lease, [service.file(lease, "student.safetensors", student_file())])
    teacher = service.ready("teacher")
    body = {"dataset": job["dataset"]}
    evaluation = service.client.post(f"/v1/teachers/{teacher}/evaluations", json=body).json()["id"]
    base = {part: job[part] for part in ("dataset", "student", "recipe")}
    sweep = service.client.post("/v1/sweeps", json={"base": base, "grid": {"recipe.seed": [1, 2]}})
    hook = service.client.post("/v1/webhooks", json=HOOK).json()["id"]
    content = os.urandom(1000)
    upload = service.client.post("/v1/uploads", json={"size_bytes": len(content)}).json()["id"]
    service.client.put(f"/v1/uploads/{upload}/parts/1", content=content)
    whole = {"sha256": hashlib.sha256(content).hexdigest()}
    service.client.post(f"/v1/uploads/{upload}/complete", json=whole)
    service.drain()  # what waits would be taken by those who make the next world
    key = service.client.post("/v1/keys", json={"name": "one", "scopes": ["read"]}).json()
    return {
        "key_id": key["id"],
        "job_id": job["id"],
        "dataset_id": job["dataset"],
        "teacher_id": teacher,
        "evaluation_id": evaluation,
        "name": "student.safetensors",
        "sweep_id": sweep.json()["id"],
        "upload_id": upload,
        "number": 1,
        "sha256": whole["sha256"],
        "webhook_id": hook,
        "delivery_id": service.client.post(f"/v1/webhooks/{hook}/test").json()["id"],
    }


@pytest.fixture
def ours(service: Any) -> Iterator[World]:
    """Of the default project."""
    made = world(service)
    yield made
    service.client.delete(f"/v1/webhooks/{made['webhook_id']}")


@pytest.fixture
def stranger(service: Any) -> Iterator[Any]:
    """The service, seen with the key of another project that may do everything there."""
    other = copy.copy(service)
    with service.client_of(service.key_of_another_project()) as other.client:
        yield other


def bodies(service: Any, operation: Operation, ids: World) -> list[Any]:
    """The bodies that the document shows, with these ids in place of those in them."""
    content = operation.told.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None:
        return [None]
    schemas = service.app.openapi()["components"]["schemas"]
    schema = content["schema"]
    schema = schema | schemas[schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema
    return [referring(example, ids) for example in schema["examples"]]


def referring(part: Any, ids: World) -> Any:
    if isinstance(part, list):
        return [referring(one, ids) for one in part]
    if not isinstance(part, dict):
        return part
    named = {name: ids[REFERENCES[name]] for name, old in part.items() if name in REFERENCES and old}
    members = {"members": [ids["teacher_id"], "tch_none"]} if "members" in part else {}
    return {name: referring(inner, ids) for name, inner in part.items()} | named | members


def refers(body: Any) -> bool:
    return body is not None and any(f'"{name}": ' in json.dumps(body) for name in (*REFERENCES, "members"))


def shown(service: Any, ids: World) -> dict[str, Any]:
    """All that can be read of a world."""
    asked = (one for one in guarded(service) if one.method == "get" and one.id not in NOT_SHOWN)
    answers = {one.id: one.send(service.client, ids) for one in asked if one.id not in SHARED}
    assert {answer.status_code for answer in answers.values()} == {200}
    return {name: answer.content for name, answer in answers.items()}


def test_what_another_project_has_is_not_there(
    service: Any, ours: World, stranger: Any, refusal: Refusal
) -> None:
    """Every operation on an object, with the ids of one project and the key of another: 404, and nothing happens."""
    before = shown(service, ours)
    walked = [one for one in guarded(service) if one.has_id and one.id not in SHARED]
    for operation in walked:
        for body in bodies(service, operation, ours):
            refusal(operation.send(stranger.client, ours, body), 404, "not-found")
    assert len(walked) > 30
    assert shown(service, ours) == before


def test_an_object_below_one_of_ones_own_is_not_there_either(
    service: Any, ours: World, stranger: Any, refusal: Refusal
) -> None:
    """Paths with two ids: the first is the caller's own, the second is another project's."""
    own = world(stranger)
    walked = 0
    for operation in guarded(service):
        first, *more = [part.strip("{}") for part in operation.path.split("/") if "{" in part] or [""]
        for name in more:
            if name.endswith("_id"):
                refusal(operation.send(stranger.client, own | {name: ours[name]}), 404, "not-found")
                assert operation.send(service.client, ours | {first: own[first]}).status_code == 404
                walked += 1
    assert walked >= 3


def test_lists_and_filters_show_nothing_of_another_project(service: Any, ours: World, stranger: Any) -> None:
    walked = 0
    for operation in guarded(service):
        if operation.method != "get" or operation.has_id or operation.id in SHARED:
            continue
        taken = {one["name"] for one in operation.told.get("parameters", [])}
        queries = [{name: ours[id_]} for name, id_ in REFERENCES.items() if name in taken]
        for query in ({}, *queries):
            answer = operation.send(stranger.client, ours, params=query)
            if answer.status_code == 200:
                assert not any(ours[name] in answer.text for name in ours if name.endswith("_id")), (
                    operation.id
                )
                walked += 1
            else:
                assert answer.status_code == 422, operation.id
                codes = {problem["code"] for problem in answer.json()["errors"]}
                assert codes <= {"compare.what", "compare.job", "compare.sweep"}
    assert walked >= 8


def test_a_body_cannot_name_what_another_project_has(service: Any, ours: World, stranger: Any) -> None:
    """Also where the path leads to an object of the caller's own."""
    own = world(stranger)
    walked = []
    for operation in guarded(service):
        for body in bodies(service, operation, ours):
            if refers(body):
                answer = operation.send(stranger.client, own, body)
                assert answer.status_code == 422, (operation.id, answer.text)
                codes = {problem["code"] for problem in answer.json()["errors"]}
                assert codes <= {"dataset.unknown", "teacher.unknown"}, (operation.id, codes)
                walked.append(operation.id)
    assert set(walked) >= {"create_job", "estimate_job", "create_sweep", "train_teacher", "combine_teachers"}


@pytest.mark.parametrize("scopes", [["read"], ["submit"], ["admin"], ["read", "submit"]], ids=",".join)
def test_a_key_does_what_its_scopes_allow_and_no_more(service: Any, scopes: Any, refusal: Refusal) -> None:
    """Every operation; the document says which scope it asks for. What is named is nowhere, so nothing happens."""
    _, secret = create_key(service.db, DEFAULT_PROJECT, "walks", scopes)
    nowhere = dict.fromkeys(("name", *world_names(service)), "none")
    with service.client_of(secret) as client:
        for operation in guarded(service):
            answer = operation.send(client, nowhere)
            if operation.scope in scopes or "admin" in scopes:
                assert answer.status_code not in (401, 403, 500), (operation.id, answer.text)
            else:
                problem = refusal(answer, 403, "forbidden")
                assert problem["allowed"] == list(dict.fromkeys((operation.scope, "admin")))


def world_names(service: Any) -> set[str]:
    return {part.strip("{}") for one in operations(service) for part in one.path.split("/") if "{" in part}


def test_what_changes_something_asks_for_more_than_reading(service: Any) -> None:
    for operation in guarded(service):
        assert operation.scope in SCOPES
        if operation.method != "get" and operation.id not in HARMLESS:
            assert operation.scope in ("submit", "admin"), operation.id


def test_without_a_key_no_operation_says_anything(service: Any, refusal: Refusal) -> None:
    nowhere = dict.fromkeys(("name", *world_names(service)), "none")
    with service.client_of(None) as client:
        for operation in guarded(service):
            problem = refusal(operation.send(client, nowhere), 401, "unauthenticated")
            assert problem["code"] == "key.invalid"


def test_a_stream_and_a_wait_end_when_their_key_is_revoked(service: Any, refusal: Refusal) -> None:
    path = f"/v1/jobs/{service.submit()['id']}"
    key, secret = create_key(service.db, DEFAULT_PROJECT, "short-lived")
    answers: list[httpx.Response] = []
    with service.client_of(secret) as client, client.stream("GET", f"{path}/stream") as stream:
        lines = stream.iter_lines()
        assert next(lines).startswith("retry:")
        known = client.get(path).headers["ETag"]
        headers = {"If-None-Match": known}
        waiting = threading.Thread(
            target=lambda: answers.append(client.get(path, params={"wait": 60}, headers=headers))
        )
        waiting.start()
        revoke_key(service.db, DEFAULT_PROJECT, key.id)
        assert [line for line in lines if line][-1] == f": The key {key.id} was revoked."
        waiting.join()
    refusal(answers[0], 401, "unauthenticated")


def test_secrets_are_compared_by_their_hashes_in_constant_time(
    service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of a secret but its hash is looked up, and both hashes are compared whichever of them fits."""
    key, first = create_key(service.db, DEFAULT_PROJECT, "rotated")
    _, second = rotate_key(service.db, DEFAULT_PROJECT, key.id, overlap_seconds=3600)
    compared: list[tuple[str, str]] = []
    real = hmac.compare_digest

    def spy(stored: str, given: str) -> bool:
        compared.append((stored, given))
        return real(stored, given)

    monkeypatch.setattr("store.keys.hmac.compare_digest", spy)
    for secret in (first, second):
        compared.clear()
        assert keys.authenticate(service.db, secret).key_id == key.id
        assert len(compared) == 2
        assert {given for _, given in compared} == {keys._hash(secret)}
        assert len({stored for stored, _ in compared}) == 2
