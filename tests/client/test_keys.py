"""`client.keys` and `abdistill keys` against the real API."""

import json
import time
from typing import Any

import pytest
from abdistill import Client, NotFound, Unauthorized
from abdistill.cli import app
from typer.testing import CliRunner


def test_keys_by_client_and_command(client: Client, api_port: int, backstage: Any) -> None:
    made = client.keys.create("ci", ["read"], lifetime_seconds=3600)
    assert made.secret is not None
    assert client.keys.get(made.id).secret is None
    assert made.id in [key.id for key in client.keys]
    again = client.keys.rotate(made.id, grace_seconds=60)
    assert again.previous_until is not None
    environment = {"ABDISTILL_URL": client.base_url, "ABDISTILL_API_KEY": backstage.key, "COLUMNS": "200"}

    def command(*words: str) -> str:
        result = CliRunner().invoke(app, ["keys", *words], env=environment)
        assert result.exit_code == 0, result.output
        return result.stdout

    other = json.loads(command("create", "cron", "--scope", "submit", "--days", "1", "--json"))
    assert "cron" in command("list")
    assert other["secret"] not in command("list", "--json")
    rotated = json.loads(command("rotate", other["id"], "--json"))["secret"]
    with Client(f"http://127.0.0.1:{api_port}", other["secret"]) as old, pytest.raises(Unauthorized):
        old.usage()
    command("revoke", other["id"])
    assert "revoked" in command("list")
    with Client(f"http://127.0.0.1:{api_port}", rotated) as old, pytest.raises(Unauthorized):
        old.usage()
    client.keys.revoke(made.id)
    with pytest.raises(NotFound):
        client.keys.get(made.id)
    deadline = time.monotonic() + 60
    while not client.audit.list(object=made.id, operation="revoke_key").data:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    since = client.audit.list(object=made.id, operation="create_key").data[0].time
    assert {"create_key", "rotate_key", "revoke_key"} <= {one.operation for one in client.audit}
    assert client.audit.list(time_before=since, object=made.id).data == ()
    assert len(client.audit.list(time_from=since, object=made.id, key=other["id"]).data) == 0
