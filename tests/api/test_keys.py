"""`/v1/keys`: an admin makes, shows, rotates and revokes his project's keys, and cannot lock himself out."""

from collections.abc import Callable
from typing import Any

from store.keys import create_key

Refusal = Callable[..., dict[str, Any]]


def test_a_key_from_its_making_to_its_end(either: Any, refusal: Refusal) -> None:
    """Its secret is told when it is made or rotated and nowhere else, and it opens what its scopes say."""
    body = {"name": "ci", "scopes": ["read", "read"], "lifetime_seconds": 3600}
    made = either.client.post("/v1/keys", json=body)
    key = made.json()
    path = made.headers["Location"]
    assert (made.status_code, path) == (201, f"/v1/keys/{key['id']}")
    assert (key["scopes"], key["hint"]) == (["read"], key["secret"][-4:])
    assert key["expires_at"] is not None
    first = key.pop("secret")
    assert either.client.get(path).json() == key
    with either.client_of(first) as reader:
        assert reader.get("/v1/jobs").status_code == 200
        assert refusal(reader.get("/v1/keys"), 403, "forbidden")["allowed"] == ["admin"]
        rotated = either.client.post(f"{path}/rotate", json={"grace_seconds": 3600}).json()
        assert rotated["previous_until"] is not None
        assert reader.get("/v1/jobs").status_code == 200
        second = either.client.post(f"{path}/rotate", json={}).json()["secret"]
        refusal(reader.get("/v1/jobs"), 401, "unauthenticated")
    with either.client_of(second) as reader:
        assert reader.get("/v1/jobs").status_code == 200
        assert either.client.delete(path).status_code == 204
        refusal(reader.get("/v1/jobs"), 401, "unauthenticated")
    for answer in (either.client.get(path), either.client.delete(path)):
        refusal(answer, 404, "not-found")
    refusal(either.client.post(f"{path}/rotate", json={}), 404, "not-found")
    listed = either.client.get("/v1/keys", params={"limit": 1})
    assert listed.json()["data"][0]["id"] == key["id"]
    assert listed.json()["data"][0]["revoked_at"] is not None
    assert not any(secret in listed.text for secret in (first, second, rotated["secret"]))


def test_the_last_admin_is_not_revoked_by_accident(either: Any, refusal: Refusal) -> None:
    either.key_of_another_project()  # there is such a project
    mine, secret = create_key(either.db, "prj_other", "mine")
    create_key(either.db, "prj_other", "expired", lifetime_seconds=0)
    create_key(either.db, "prj_other", "reader", ["read"])
    with either.client_of(secret) as client:
        for key in client.get("/v1/keys", params={"limit": 100}).json()["data"]:
            if key["id"] != mine.id and key["revoked_at"] is None and "admin" in key["scopes"]:
                assert client.delete(f"/v1/keys/{key['id']}").status_code == 204
        problem = refusal(client.delete(f"/v1/keys/{mine.id}"), 409, "conflict")
        assert problem["code"] == "key.last_admin"
        assert mine.id in problem["message"]
        assert "abdistill-server keys revoke" in problem["hint"]
        other = client.post("/v1/keys", json={"name": "heir", "scopes": ["admin"]}).json()
        assert client.delete(f"/v1/keys/{mine.id}").status_code == 204
        refusal(client.get("/v1/keys"), 401, "unauthenticated")
    with either.client_of(other["secret"]) as client:
        refusal(client.delete(f"/v1/keys/{other['id']}"), 409, "conflict")
