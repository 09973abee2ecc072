"""The audit log: who asked for what change, and who was refused; never what was in it."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from api import audit
from api.audit import MOST_STRANGERS, AuditTrail
from store.audit import list_entries
from store.keys import create_key
from store.models import DEFAULT_PROJECT


def scope_of(number: int, caller: Any = None) -> dict[str, Any]:
    route = type("Route", (), {"operation_id": "create_job"})
    state = {"request_id": f"r{number}", "principal": caller}
    return {"method": "POST", "route": route, "client": ("192.0.2.1", 5), "state": state}


def test_a_change_and_a_refusal_are_written_down_and_nothing_else(
    either: Any, wait_for: Callable[[Callable[[], Any]], Any]
) -> None:
    admin, secret = create_key(either.db, DEFAULT_PROJECT, "boss")
    reader, weak = create_key(either.db, DEFAULT_PROJECT, "reader", ["read"])
    with either.client_of(secret) as client, either.client_of(weak) as other:
        made = client.post("/v1/keys", json={"name": "hush-hush", "scopes": ["read"]})
        id_ = made.json()["id"]
        client.get("/v1/keys")
        assert other.delete(f"/v1/keys/{id_}").status_code == 403
        assert other.get("/v1/keys").status_code == 403
        last = client.delete(f"/v1/keys/{id_}", headers={"X-Request-ID": "the-last"})
        assert last.status_code == 204

        def written() -> Any:
            found = client.get("/v1/audit", params={"object": id_}).json()["data"]
            return found if len(found) == 3 else None

        entries = wait_for(written)
        told = [(one["operation"], one["status"], one["key_id"], one["key_name"]) for one in entries]
        assert told == [
            ("revoke_key", 204, admin.id, "boss"),
            ("revoke_key", 403, reader.id, "reader"),
            ("create_key", 201, admin.id, "boss"),
        ]
        assert (entries[0]["request_id"], entries[0]["address"]) == ("the-last", "127.0.0.1")
        mine = client.get("/v1/audit", params={"key": reader.id})
        assert [one["operation"] for one in mine.json()["data"]] == ["list_keys", "revoke_key"]
        first = client.get("/v1/audit", params={"key": admin.id, "limit": 1}).json()
        second = client.get("/v1/audit", params={"key": admin.id, "cursor": first["next_cursor"]}).json()
        assert [one["operation"] for one in first["data"] + second["data"]] == ["revoke_key", "create_key"]
        window = {"time_from": entries[2]["time"], "time_before": entries[0]["time"], "key": admin.id}
        assert [one["id"] for one in client.get("/v1/audit", params=window).json()["data"]] == [
            entries[2]["id"]
        ]
        everything = client.get("/v1/audit", params={"limit": 100}).text
        assert not any(word in everything for word in ("hush-hush", made.json()["secret"], secret, weak))
    with either.client_of(either.key_of_another_project()) as stranger:
        assert stranger.get("/v1/audit", params={"object": id_}).json()["data"] == []


def test_without_a_good_key_the_project_is_nobody_s(
    service: Any, wait_for: Callable[[Callable[[], Any]], Any]
) -> None:
    with service.client_of("abd_wrong") as nobody:
        request_id = nobody.get("/v1/jobs").headers["X-Request-ID"]
    found = wait_for(
        lambda: [
            one for one in list_entries(service.db, None, limit=100).items if one.request_id == request_id
        ]
    )
    assert [(one.operation, one.status, one.key_id) for one in found] == [("list_jobs", 401, None)]


def test_what_cannot_be_written_waits_and_a_flood_of_strangers_is_cut(
    service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    trail = AuditTrail()
    trail._db = service.db
    for number in range(3 * MOST_STRANGERS):
        trail.note(scope_of(number), 401, None)
    caller = type("Caller", (), {"project_id": "prj_flood", "key_id": "key_1", "key_name": "k"})
    trail.note(scope_of(1, caller), 201, "/v1/jobs/job_1")
    real = audit.record

    def away(*_: Any) -> None:
        raise OperationalError("", {}, Exception("away"))

    monkeypatch.setattr(audit, "record", away)
    assert not trail.flush()
    monkeypatch.setattr(
        audit, "record", lambda db, entries: [real(db, entries), away()]
    )  # committed, and not told
    assert not trail.flush()
    monkeypatch.setattr(audit, "record", real)
    trail.close()
    assert len(trail._waiting) == 0
    assert [one.object_id for one in list_entries(service.db, "prj_flood").items] == ["job_1"]
    strangers = list_entries(service.db, None, limit=1000).items
    assert len([one for one in strangers if one.address == "192.0.2.1"]) == MOST_STRANGERS
