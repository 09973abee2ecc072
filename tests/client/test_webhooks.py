"""`client.webhooks` and `abdistill webhooks` against the real API, `webhooks.verify` against another's signatures."""

import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import standardwebhooks
from abdistill import (
    Client,
    ConfigurationError,
    Conflict,
    Delivery,
    Invalid,
    InvalidSignature,
    NotFound,
    webhooks,
)
from abdistill.cli import app
from typer.testing import CliRunner

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = '{"type":"job.succeeded","timestamp":"2026-01-01T00:00:00Z","data":{"id":"job_1","name":"ä"}}'
NOW = 1_700_000_000.0


def signed(moment: float = NOW, body: str = BODY, secret: str = SECRET) -> dict[str, str]:
    """What a sender that uses the reference implementation sends."""
    at = datetime.fromtimestamp(moment, UTC)
    signature = standardwebhooks.Webhook(secret).sign("evt_1", at, body)
    return {"Webhook-Id": "evt_1", "webhook-timestamp": str(int(moment)), "WEBHOOK-SIGNATURE": signature}


def test_what_another_implementation_signed_is_accepted() -> None:
    for body in (BODY, BODY.encode()):
        assert webhooks.verify(body, signed(), SECRET, now=NOW) == json.loads(BODY)
    several = signed() | {"WEBHOOK-SIGNATURE": "v1a,xyz v1,AAAA " + signed()["WEBHOOK-SIGNATURE"] + " v2,é"}
    assert webhooks.verify(BODY, several, SECRET, now=NOW)["data"]["id"] == "job_1"
    assert webhooks.verify(BODY, signed(time.time()), SECRET)["type"] == "job.succeeded"


@pytest.mark.parametrize(
    "change",
    [
        {"body": BODY + " "},
        {"secret": "whsec_" + "A" * 32},
        {"headers": {"Webhook-Id": "evt_2"}},
        {"headers": {"webhook-timestamp": str(int(NOW) + 1)}},
        {"headers": {"WEBHOOK-SIGNATURE": ""}},
        {"headers": {"WEBHOOK-SIGNATURE": signed()["WEBHOOK-SIGNATURE"].replace("v1,", "v2,")}},
        {"headers": {"WEBHOOK-SIGNATURE": signed()["WEBHOOK-SIGNATURE"].replace("v1,", "")}},
        {"headers": {"WEBHOOK-SIGNATURE": signed()["WEBHOOK-SIGNATURE"][:-4]}},
    ],
    ids=str,
)
def test_what_differs_in_anything_is_refused(change: dict[str, Any]) -> None:
    headers = signed() | change.get("headers", {})
    with pytest.raises(InvalidSignature):
        webhooks.verify(change.get("body", BODY), headers, change.get("secret", SECRET), now=NOW)


@pytest.mark.parametrize("name", list(signed()))
def test_a_missing_header_is_named(name: str) -> None:
    headers = {key: value for key, value in signed().items() if key != name}
    with pytest.raises(InvalidSignature, match=name.lower()):
        webhooks.verify(BODY, headers, SECRET, now=NOW)


def test_a_request_of_another_time_is_refused() -> None:
    for late in (-300, 300):
        assert webhooks.verify(BODY, signed(), SECRET, now=NOW + late)
    for late in (-301, 301):
        with pytest.raises(InvalidSignature, match="more than 300 s away"):
            webhooks.verify(BODY, signed(), SECRET, now=NOW + late)
    assert webhooks.verify(BODY, signed(), SECRET, now=NOW + 301, tolerance_seconds=302)
    with pytest.raises(InvalidSignature, match="no number"):
        webhooks._check_time("-1", NOW, 300)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_?"])
def test_a_secret_that_is_none_is_told_from_a_bad_signature(secret: str) -> None:
    with pytest.raises(ConfigurationError):
        webhooks.verify(BODY, signed(), secret, now=NOW)


def test_the_receiver_of_the_documentation_receives(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text()
    (code,) = re.findall(r"```python\n(from http[^`]*)HTTPServer[^`]*```", page)
    names: dict[str, Any] = {}
    exec(code.replace("whsec_...", SECRET), names)
    with names["HTTPServer"](("127.0.0.1", 0), names["Receiver"]) as server:
        for body, status in ((BODY, 204), (BODY + " ", 401)):
            asked = ThreadPoolExecutor().submit(
                httpx.post,
                f"http://127.0.0.1:{server.server_port}",
                content=body.encode(),
                headers=signed(time.time()),
            )
            server.handle_request()
            assert asked.result().status_code == status
    assert "job.succeeded job_1" in capsys.readouterr().out


def ended(client: Client, delivery: Delivery) -> Delivery:
    """A delivery when it is not waiting for its first attempt any more."""
    deadline = time.monotonic() + 60
    while (now := client.webhooks.delivery(delivery.webhook_id, delivery.id)).attempted_at is None or (
        now.response_status is None and now.error is None
    ):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return now


def test_from_a_webhook_to_its_receiver_and_its_log(client: Client, receiver: Any) -> None:
    hook = client.webhooks.create(receiver.url, ["job.succeeded"], description="d")
    assert hook.secret is not None
    assert client.webhooks.get(hook.id).secret is None
    assert hook.id in [one.id for one in client.webhooks]
    receiver.fail(500)
    sent = client.webhooks.test(hook.id)
    assert ended(client, sent).response_status == 500
    again = client.webhooks.redeliver(hook.id, sent.id)
    assert again.event_id == sent.event_id
    (first, second) = receiver.wait_for(2)
    events = [webhooks.verify(one.body, one.headers, hook.secret) for one in (first, second)]
    assert events == [sent.payload] * 2
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == sent.event_id
    assert [one.id for one in client.webhooks.deliveries(hook.id).data] == [sent.id]
    rotated = client.webhooks.rotate_secret(hook.id, overlap_seconds=60)
    assert (rotated.secret != hook.secret, len(rotated.old_secrets_until)) == (True, 1)
    changed = client.webhooks.update(hook.id, events=["teacher.ready"], enabled=False)
    assert (changed.events, changed.enabled, changed.url) == (("teacher.ready",), False, receiver.url)
    with pytest.raises(Conflict):
        client.webhooks.test(hook.id)
    with pytest.raises(Invalid, match="it must begin with https://"):
        client.webhooks.create("ftp://example.com/", ["job.failed"])
    client.webhooks.delete(hook.id)
    with pytest.raises(NotFound):
        client.webhooks.get(hook.id)


@pytest.fixture
def command(api_port: int, backstage: Any) -> Iterator[Callable[..., str]]:
    """The command in this process: its output, when it has succeeded."""
    environment = {"ABDISTILL_URL": f"http://127.0.0.1:{api_port}", "ABDISTILL_API_KEY": backstage.key}

    def run(*words: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, ["webhooks", *words], env=environment | {"COLUMNS": "200"})
        assert result.exit_code == code, result.output
        return result.stdout

    return run


def test_the_command_does_the_same(command: Callable[..., str], client: Client, receiver: Any) -> None:
    words = ("--event", "job.failed", "--event", "job.succeeded", "--description", "d")
    made = json.loads(command("add", receiver.url, *words, "--json"))
    assert made["events"] == ["job.failed", "job.succeeded"]
    id_ = made["id"]
    assert made["secret"].startswith("whsec_")
    assert "job.failed" in command("list")
    assert (id_, receiver.url) in [(one["id"], one["url"]) for one in json.loads(command("list", "--json"))]
    assert "whsec_" not in command("show", id_) + command("list", "--json")
    assert "whsec_" in command("rotate-secret", id_, "--overlap", "60")
    assert "old secrets until" in command("show", id_)
    sent = Delivery.model_validate_json(command("test", id_, "--json"))
    assert ended(client, sent).state == "succeeded"
    assert "webhook.test" in command("deliveries", id_)
    assert json.loads(command("deliveries", id_, "--json"))[0]["response_status"] == 204
    assert "pending" in command("redeliver", id_, sent.id)
    receiver.wait_for(2)
    assert "no: Disabled by its user." in command("update", id_, "--disable")
    assert json.loads(command("update", id_, "--enable", "--event", "job.paused", "--json"))["events"] == [
        "job.paused"
    ]
    command("delete", id_)
    assert id_ not in command("list")
    command("add", receiver.url, code=2)
