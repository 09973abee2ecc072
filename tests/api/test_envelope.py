"""What holds for every request: who may ask, ids, headers, limits, faults, what the log keeps."""

import logging
import re
import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker

from store.keys import create_key, revoke_key
from store.models import DEFAULT_PROJECT

Refusal = Callable[..., dict[str, Any]]


@pytest.mark.parametrize("authorization", [None, "Bearer abd_wrong", "Basic dXNlcjpwYXNz", "Bearer", "abd_x"])
def test_without_a_valid_key_nothing_is_answered(
    service: Any, refusal: Refusal, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = httpx.get(f"{service.url}/v1/jobs", headers=headers)
    problem = refusal(answer, 401, "unauthenticated")
    assert problem["where"] == "header.Authorization"
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_revoked_key_is_worthless_from_the_next_request_on(service: Any, refusal: Refusal) -> None:
    key, secret = create_key(service.db, DEFAULT_PROJECT, "short-lived")
    with service.client_of(secret) as client:
        assert client.get("/v1/jobs").status_code == 200
        revoke_key(service.db, DEFAULT_PROJECT, key.id)
        refusal(client.get("/v1/jobs"), 401, "unauthenticated")


def test_a_key_that_has_expired_is_told_so(service: Any, refusal: Refusal) -> None:
    key, secret = create_key(service.db, DEFAULT_PROJECT, "over", lifetime_seconds=0)
    with service.client_of(secret) as client:
        problem = refusal(client.get("/v1/jobs"), 401, "unauthenticated")
    assert problem["code"] == "key.expired"
    assert key.id in problem["message"]


def test_a_key_that_may_only_read_submits_nothing(service: Any, refusal: Refusal) -> None:
    _, secret = create_key(service.db, DEFAULT_PROJECT, "reader", ["read"])
    with service.client_of(secret) as client:
        assert client.get("/v1/datasets").status_code == 200
        problem = refusal(client.post("/v1/datasets", json={"name": "d", "filename": "f"}), 403, "forbidden")
    assert problem["where"] == "header.Authorization"
    assert problem["value"] == "read"
    assert problem["allowed"] == ["submit", "admin"]


TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("version", "rest", "flags"), [("00", "", "01"), ("00", "", "00"), ("cc", "-what-comes-later", "01")]
)
def test_a_request_of_a_trace_is_found_by_it(
    client: httpx.Client, caplog: pytest.LogCaptureFixture, version: str, rest: str, flags: str
) -> None:
    with caplog.at_level(logging.INFO):
        answer = client.get(
            "/v1/jobs/job_none", headers={"traceparent": f"{version}-{TRACE}-{PARENT}-{flags}{rest}"}
        )
    assert answer.headers["X-Request-ID"] == answer.json()["request_id"] == TRACE
    ours = re.fullmatch(f"00-{TRACE}-([0-9a-f]{{16}})-{flags}", answer.headers["traceresponse"])
    assert ours is not None
    assert ours[1] != PARENT
    assert f"trace {TRACE} {ours[1]}" in caplog.text


def test_a_request_id_is_told_beside_its_trace(client: httpx.Client) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-ID": "mine"}
    answer = client.get("/v1/jobs/job_none", headers=headers)
    assert answer.headers["X-Request-ID"] == "mine"
    assert answer.headers["traceresponse"].startswith(f"00-{TRACE}-")


@pytest.mark.parametrize(
    "traceparent",
    [
        f"00-{TRACE}-{PARENT}-01-more",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}-{PARENT}-01",
        "",
    ],
)
def test_what_is_no_traceparent_is_passed_over(client: httpx.Client, traceparent: str) -> None:
    answer = client.get("/v1/jobs/job_none", headers={"traceparent": traceparent})
    assert answer.status_code == 404
    assert "traceresponse" not in answer.headers
    assert answer.headers["X-Request-ID"].lower() != TRACE


def test_a_request_keeps_the_id_that_its_sender_gave(client: httpx.Client) -> None:
    answer = client.get("/v1/jobs/job_none", headers={"X-Request-ID": "trace-17"})
    assert answer.headers["X-Request-ID"] == answer.json()["request_id"] == "trace-17"


@pytest.mark.parametrize("given", ["", "has space", "x" * 65, 'quo"te'])
def test_an_id_that_would_spoil_the_log_is_replaced(client: httpx.Client, given: str) -> None:
    ids = [client.get("/healthz", headers={"X-Request-ID": given}).headers["X-Request-ID"] for _ in range(2)]
    assert given not in ids
    assert len(set(ids)) == 2


def test_answers_carry_security_headers(client: httpx.Client) -> None:
    answer = client.get("/v1/jobs")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("chunked", [False, True])
def test_json_of_more_than_a_mebibyte_is_refused(
    client: httpx.Client, refusal: Refusal, chunked: bool
) -> None:
    body = b'{"name": "' + b"x" * 2**20 + b'"}'
    content: Any = iter([body[:1000], body[1000:]]) if chunked else body
    answer = client.post("/v1/datasets", content=content, headers={"Content-Type": "application/json"})
    problem = refusal(answer, 413, "too-large")
    assert problem["where"] == "body"
    assert problem["allowed"] == ["<= 1048576 bytes"]


def test_a_fault_of_the_service_tells_its_id_and_nothing_else(
    service: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("the secret plan")

    monkeypatch.setattr("api.routes.jobs.list_jobs", broken)
    answer = service.client.get("/v1/jobs")
    assert answer.status_code == 500
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "secret plan" not in answer.text
    assert "secret plan" in caplog.text
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"]
    assert answer.headers["X-Request-ID"] in caplog.text


def test_the_log_has_a_line_for_each_request_and_no_secret(
    service: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    answer = service.client.get("/v1/jobs", params={"limit": 3})
    lines = [r.getMessage() for r in caplog.records if r.name == "api.access"]
    (line,) = [line for line in lines if answer.headers["X-Request-ID"] in line]
    assert line.startswith("GET /v1/jobs 200 ")
    assert service.key not in caplog.text


def test_a_path_cannot_forge_a_line_of_the_log(service: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    service.client.get("/v1/jobs/x%0AGET%20/forged")
    assert "\nGET /forged" not in "".join(r.getMessage() for r in caplog.records)


def test_a_path_or_method_that_is_not_there_says_which_are(client: httpx.Client, refusal: Refusal) -> None:
    problem = refusal(client.get("/v1/job"), 404, "not-found")
    assert problem["where"] == "path"
    assert "/docs" in problem["hint"]
    answer = client.patch("/v1/jobs")
    problem = refusal(answer, 405, "method-not-allowed")
    assert (problem["where"], problem["value"]) == ("method", "PATCH")
    assert problem["allowed"] == answer.headers["Allow"].split(", ") == ["GET", "POST"]
    assert client.patch("/v1/teachers/train").headers["Allow"] == "POST", "no teacher is called `train`"


def test_health_asks_no_key_and_readiness_names_each_part(service: Any) -> None:
    assert httpx.get(f"{service.url}/healthz").json() == {"status": "ok"}
    answer = httpx.get(f"{service.url}/readyz")
    assert answer.status_code == 200
    parts = answer.json()["parts"]
    assert (parts["database"], parts["blobs"]) == ("ok", "ok")
    assert "polling" in parts["broker"]
    assert not [key for key in service.blobs.list("") if key.startswith("readyz")]


def test_readiness_says_which_part_is_away(service: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    from fastapi.testclient import TestClient

    from api.app import create_app
    from store.settings import Settings

    folder = tmp_path_factory.mktemp("broken")
    (folder / "blobs").write_text("a file where the folder should be")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        broker = f"redis://:hunter2@127.0.0.1:{closed.getsockname()[1]}/0"
    settings = Settings(data_dir=folder, broker_url=broker)
    with TestClient(create_app(settings)) as client:
        answer = client.get("/readyz")
    assert answer.status_code == 503
    parts = answer.json()["parts"]
    assert "abdistill-server migrate" in parts["database"]
    assert re.fullmatch(r"away \(\w+Error; the service's log says more\)", parts["blobs"])
    assert parts["broker"] == "away (ConnectionRefusedError; the service's log says more)"
    assert "hunter2" not in answer.text
    assert str(folder) not in answer.text


def test_the_type_of_a_problem_leads_to_what_it_means(service: Any, refusal: Refusal) -> None:
    answer = service.client.get("/v1/jobs/job_none")
    problem = refusal(answer, 404, "not-found")
    told = httpx.get(service.url + answer.json()["type"]).json()
    assert (told["status"], told["title"]) == (404, answer.json()["title"])
    (code,) = [one for one in told["codes"] if one["code"] == problem["code"]]
    assert problem["hint"] == code["remedy"]
    listed = httpx.get(f"{service.url}/v1/problems").json()["data"]
    assert told in listed
    assert len({one["type"] for one in listed}) == len(listed) >= 20


def test_without_its_database_the_service_asks_to_be_asked_again(
    service: Any, refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connections lead to a port where nobody listens."""
    away = create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none")
    with monkeypatch.context() as patch:
        for name in ("_read_session", "_write_session"):
            patch.setattr(service.app.state.context.db, name, sessionmaker(away))
        answer = service.client.get("/v1/jobs")
        problem = refusal(answer, 503, "unavailable")
    assert problem["code"] == "database.away"
    assert int(answer.headers["Retry-After"]) > 0
    assert "127.0.0.1" not in answer.text
    assert service.client.get("/v1/jobs").status_code == 200
