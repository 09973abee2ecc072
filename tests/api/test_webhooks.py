"""`/v1/webhooks`: made, changed, deleted, refused; a secret is shown once."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

Refusal = Callable[..., dict[str, Any]]
URL = "https://203.0.114.7/hook"
EVENTS = ["job.failed", "job.succeeded"]


@pytest.fixture
def create(either: Any) -> Iterator[Callable[..., dict[str, Any]]]:
    """Makes webhooks that are gone after the test."""
    made: list[str] = []

    def make(**fields: Any) -> dict[str, Any]:
        answer = either.client.post("/v1/webhooks", json={"url": URL, "events": EVENTS} | fields)
        assert answer.status_code == 201, answer.text
        hook: dict[str, Any] = answer.json()
        assert answer.headers["Location"] == f"/v1/webhooks/{hook['id']}"
        made.append(hook["id"])
        return hook

    yield make
    for id_ in made:
        either.client.delete(f"/v1/webhooks/{id_}")


def test_a_webhook_is_made_shown_changed_and_deleted(either: Any, create: Any, refusal: Refusal) -> None:
    made = create(events=[*EVENTS, EVENTS[0]], description="ci")
    path = f"/v1/webhooks/{made['id']}"
    secret = made.pop("secret")
    assert secret.startswith("whsec_")
    assert len(secret) == len("whsec_") + 44
    assert {name: made[name] for name in ("url", "events", "description", "enabled", "disabled_reason")} == {
        "url": URL,
        "events": EVENTS,
        "description": "ci",
        "enabled": True,
        "disabled_reason": None,
    }
    shown = either.client.get(path)
    assert shown.json() == made
    listed = either.client.get("/v1/webhooks")
    assert [one["id"] for one in listed.json()["data"]] == [made["id"]]
    changed = either.client.patch(path, json={"events": ["teacher.ready"], "enabled": False})
    assert (changed.json()["events"], changed.json()["enabled"]) == (["teacher.ready"], False)
    assert changed.json()["disabled_reason"] == "Disabled by its user."
    assert (changed.json()["url"], changed.json()["description"]) == (URL, "ci")
    again = either.client.patch(path, json={"enabled": True, "url": URL + "/2"}).json()
    assert (again["enabled"], again["disabled_reason"], again["url"]) == (True, None, URL + "/2")
    rotated = either.client.post(f"{path}/rotate-secret", json={"overlap_seconds": 60})
    assert rotated.json()["secret"] not in (secret, None)
    assert len(rotated.json()["old_secrets_until"]) == 1
    new = rotated.json()["secret"]
    either.client.post(f"{path}/test")
    for answer in (shown, listed, changed, either.client.get(path), either.client.get(f"{path}/deliveries")):
        assert secret not in answer.text
        assert new not in answer.text
        assert "whsec_" not in answer.text
    assert either.client.delete(path).status_code == 204
    for method, below in (
        ("GET", ""),
        ("DELETE", ""),
        ("PATCH", ""),
        ("GET", "/deliveries"),
        ("POST", "/test"),
    ):
        body = {"json": {}} if method == "PATCH" else {}
        refusal(either.client.request(method, path + below, **body), 404, "not-found")


def test_a_list_is_read_page_by_page(either: Any, create: Any) -> None:
    made = [create()["id"] for _ in range(3)]
    first = either.client.get("/v1/webhooks", params={"limit": 2}).json()
    rest = either.client.get("/v1/webhooks", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [one["id"] for one in first["data"] + rest["data"]] == made[::-1]
    assert (first["has_more"], rest["has_more"]) == (True, False)


def test_a_log_is_read_page_by_page(either: Any, create: Any, refusal: Refusal) -> None:
    path = f"/v1/webhooks/{create()['id']}"
    sent = [either.client.post(f"{path}/test").json()["id"] for _ in range(3)]
    first = either.client.get(f"{path}/deliveries", params={"limit": 2}).json()
    after = {"limit": 2, "cursor": first["next_cursor"]}
    rest = either.client.get(f"{path}/deliveries", params=after).json()
    assert [one["id"] for one in first["data"] + rest["data"]] == sent[::-1]
    one = either.client.get(f"{path}/deliveries/{sent[0]}").json()
    assert one == rest["data"][0]
    assert (one["type"], one["state"], one["attempts"]) == ("webhook.test", "pending", 0)
    assert one["payload"]["type"] == "webhook.test"
    refusal(either.client.get(f"{path}/deliveries/dlv_none"), 404, "not-found")
    elsewhere = f"/v1/webhooks/{create()['id']}/deliveries/{sent[0]}"
    refusal(either.client.get(elsewhere), 404, "not-found")
    problem = refusal(either.client.get(f"{path}/deliveries", params={"cursor": "x"}), 422)
    assert problem["where"] == "query.cursor"


def test_another_project_sees_none_of_it(either: Any, create: Any, refusal: Refusal) -> None:
    path = f"/v1/webhooks/{create()['id']}"
    delivery = either.client.post(f"{path}/test").json()["id"]
    with either.client_of(either.key_of_another_project()) as stranger:
        assert stranger.get("/v1/webhooks").json()["data"] == []
        for method, below, body in (
            ("GET", "", None),
            ("PATCH", "", {"enabled": False}),
            ("DELETE", "", None),
            ("POST", "/rotate-secret", {}),
            ("POST", "/test", None),
            ("GET", "/deliveries", None),
            ("GET", f"/deliveries/{delivery}", None),
            ("POST", f"/deliveries/{delivery}/redeliver", None),
        ):
            refusal(stranger.request(method, path + below, json=body), 404, "not-found")
    assert either.client.get(path).json()["enabled"] is True


def test_there_are_only_so_many(
    either: Any, create: Any, refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(either.settings, "webhook_limit", 1)
    create()
    answer = either.client.post("/v1/webhooks", json={"url": URL, "events": EVENTS})
    problem = refusal(answer, 409, "too-many")
    assert (problem["code"], problem["value"], problem["allowed"]) == ("webhook.limit", 1, ["<= 1 webhooks"])


def test_an_event_that_is_none_is_refused_with_those_that_are(service: Any, refusal: Refusal) -> None:
    answer = service.client.post("/v1/webhooks", json={"url": URL, "events": ["job.succeded"]})
    problem = refusal(answer, 422)
    assert (problem["where"], problem["value"]) == ("events.0", "job.succeded")
    assert "job.succeeded" in problem["allowed"]
    assert "Did you mean 'job.succeeded'?" in problem["hint"]
    assert (
        refusal(service.client.post("/v1/webhooks", json={"url": URL, "events": []}), 422)["where"]
        == "events"
    )


@pytest.mark.parametrize("path", ["", "/whk_any/rotate-secret"])
def test_a_bad_secret_is_refused_and_not_repeated(
    service: Any, refusal: Refusal, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    body = {"url": URL, "events": EVENTS} if not path else {}
    answer = service.client.post(f"/v1/webhooks{path}", json=body | {"secret": "whsec_aHVudGVyMg=="})
    problem = refusal(answer, 422)
    assert (problem["where"], problem["value"]) == ("secret", None)
    assert problem["allowed"] == ["whsec_ and base64 of 24 to 64 bytes"]
    assert "aHVudGVyMg" not in answer.text + caplog.text


REFUSED_URLS = {
    "http": ("http://203.0.114.7/", "http:// is not allowed"),
    "no scheme": ("example.com/hook", "https://"),
    "other scheme": ("ftp://example.com/", "https://"),
    "file": ("file:///etc/passwd", "https://"),
    "no host": ("https:///hook", "host"),
    "password": ("https://me:secret@example.com/", "user name"),
    "fragment": ("https://example.com/#x", "fragment"),
    "port": ("https://example.com:0/", "port"),
    "no such port": ("https://example.com:99999/", "port"),
    "line break": ("https://example.com/\r\nX-Injected: 1", "address"),
    "loopback": ("https://127.0.0.1/", "may not lead"),
    "loopback by name": ("https://localhost/", "may not lead"),
    "loopback as a number": ("https://2130706433/", "may not lead"),
    "private": ("https://10.1.2.3:8443/", "may not lead"),
    "cloud metadata": ("https://169.254.169.254/latest/meta-data/", "may not lead"),
    "IPv6 loopback": ("https://[::1]/", "may not lead"),
    "IPv4 in IPv6": ("https://[::ffff:127.0.0.1]/", "may not lead"),
}


@pytest.mark.parametrize(("url", "message"), REFUSED_URLS.values(), ids=REFUSED_URLS)
def test_where_a_webhook_may_not_lead(
    service: Any, refusal: Refusal, monkeypatch: pytest.MonkeyPatch, url: str, message: str
) -> None:
    monkeypatch.setattr(service.settings, "webhook_allow_http", False)
    monkeypatch.setattr(service.settings, "webhook_allow_private", False)
    problem = refusal(service.client.post("/v1/webhooks", json={"url": url, "events": EVENTS}), 422)
    assert (problem["code"], problem["where"], problem["value"]) == ("webhook.url", "url", url)
    assert message in problem["message"]
    assert problem["allowed"] == ["https://HOST/PATH, HOST on the public internet"]
    assert service.client.get("/v1/webhooks").json()["data"] == []


def test_a_changed_address_is_looked_at_too(
    either: Any, create: Any, refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/v1/webhooks/{create()['id']}"
    monkeypatch.setattr(either.settings, "webhook_allow_private", False)
    problem = refusal(either.client.patch(path, json={"url": "https://127.0.0.1/"}), 422)
    assert problem["where"] == "url"
    assert either.client.get(path).json()["url"] == URL
