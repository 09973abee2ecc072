"""Keys: shown once, kept as hashes, worthless when revoked."""

import pytest
from sqlalchemy import text, update

from store import keys
from store.columns import unix_now
from store.errors import KeyExpired, NotFound, Unauthenticated
from store.keys import authenticate, create_key, list_keys, revoke_key, rotate_key
from store.models import DEFAULT_PROJECT, ApiKey
from store.projects import create_project, list_projects


def test_a_key_opens_its_project(db) -> None:
    key, secret = create_key(db, DEFAULT_PROJECT, "ci", ["submit", "read"])
    principal = authenticate(db, secret)
    assert (principal.key_id, principal.project_id) == (key.id, DEFAULT_PROJECT)
    assert principal.scopes == {"read", "submit"}


def test_the_secret_is_nowhere_in_the_database(db) -> None:
    _, secret = create_key(db, DEFAULT_PROJECT, "ci")
    assert secret.startswith("abd_")
    assert len(secret) >= 47
    with db.read() as session:
        stored = str(session.execute(text("SELECT * FROM api_keys")).all())
    assert secret.removeprefix("abd_") not in stored
    assert secret[-4:] in stored


@pytest.mark.parametrize("token", ["", "abd_", "abd_\0", "\ud800", "x" * 100_000])
def test_any_other_token_opens_nothing(db, token: str) -> None:
    create_key(db, DEFAULT_PROJECT, "ci")
    with pytest.raises(Unauthenticated):
        authenticate(db, token)


def test_a_hash_is_not_a_key(db) -> None:
    key, _ = create_key(db, DEFAULT_PROJECT, "ci")
    with pytest.raises(Unauthenticated):
        authenticate(db, key.secret_sha256)


def test_a_revoked_key_opens_nothing_from_then_on(db) -> None:
    first, secret = create_key(db, DEFAULT_PROJECT, "first")
    second, other = create_key(db, DEFAULT_PROJECT, "second")
    assert revoke_key(db, DEFAULT_PROJECT, first.id).revoked_at is not None
    with pytest.raises(Unauthenticated):
        authenticate(db, secret)
    assert authenticate(db, other).key_id == second.id
    with pytest.raises(NotFound):
        revoke_key(db, DEFAULT_PROJECT, first.id)
    with pytest.raises(NotFound):
        revoke_key(db, "prj_other", second.id)
    assert [(key.name, key.revoked_at is None) for key in list_keys(db, DEFAULT_PROJECT)] == [
        ("first", False),
        ("second", True),
    ]


def test_a_key_of_no_project_is_not_made(db) -> None:
    with pytest.raises(NotFound):
        create_key(db, "prj_none", "ci")


def test_a_key_opens_its_own_project_only(db) -> None:
    project = create_project(db, "vision")
    assert [one.name for one in list_projects(db)][-1] == "vision"
    key, secret = create_key(db, project.id, "ci")
    assert authenticate(db, secret).project_id == project.id
    assert key.id not in [one.id for one in list_keys(db, DEFAULT_PROJECT)]
    with pytest.raises(NotFound):
        rotate_key(db, DEFAULT_PROJECT, key.id, overlap_seconds=60)


def test_a_key_that_has_expired_opens_nothing_and_says_so(db) -> None:
    _, good = create_key(db, DEFAULT_PROJECT, "a day", lifetime_seconds=86400)
    key, secret = create_key(db, DEFAULT_PROJECT, "over", lifetime_seconds=0)
    assert authenticate(db, good)
    with pytest.raises(KeyExpired, match=key.id):
        authenticate(db, secret)
    with pytest.raises(KeyExpired):
        rotate_key(db, DEFAULT_PROJECT, key.id, overlap_seconds=60)


def test_a_rotated_key_opens_with_both_secrets_until_the_overlap_is_over(db) -> None:
    key, first = create_key(db, DEFAULT_PROJECT, "ci", ["read"])
    rotated, second = rotate_key(db, DEFAULT_PROJECT, key.id, overlap_seconds=3600)
    assert (rotated.id, rotated.hint) == (key.id, second[-4:])
    assert authenticate(db, first) == authenticate(db, second)
    with db.write() as session:
        session.execute(update(ApiKey).values(previous_until=unix_now() - 1))
    with pytest.raises(Unauthenticated, match="replaced"):
        authenticate(db, first)
    assert authenticate(db, second).scopes == {"read"}


def test_only_the_last_secret_before_opens_too(db) -> None:
    key, first = create_key(db, DEFAULT_PROJECT, "ci")
    _, second = rotate_key(db, DEFAULT_PROJECT, key.id, overlap_seconds=3600)
    _, third = rotate_key(db, DEFAULT_PROJECT, key.id, overlap_seconds=3600)
    with pytest.raises(Unauthenticated):
        authenticate(db, first)
    assert authenticate(db, second) == authenticate(db, third)
    revoke_key(db, DEFAULT_PROJECT, key.id)
    for secret in (second, third):
        with pytest.raises(Unauthenticated):
            authenticate(db, secret)


def test_the_last_use_is_written_down_once_a_minute(db) -> None:
    _, secret = create_key(db, DEFAULT_PROJECT, "ci")

    def used() -> float | None:
        return list_keys(db, DEFAULT_PROJECT)[-1].last_used_at

    assert used() is None
    authenticate(db, secret)
    first = used()
    assert first is not None
    authenticate(db, secret)
    assert used() == first
    with db.write() as session:
        session.execute(update(ApiKey).values(last_used_at=unix_now() - keys.USE_SECONDS - 1))
    before = used()
    assert before is not None
    authenticate(db, secret)
    assert (used() or 0.0) > before + keys.USE_SECONDS
