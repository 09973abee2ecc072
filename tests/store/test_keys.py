"""Keys: shown once, kept as hashes, worthless when revoked."""

import pytest
from sqlalchemy import text

from store.errors import NotFound, Unauthenticated
from store.keys import authenticate, create_key, list_keys, revoke_key
from store.models import DEFAULT_PROJECT


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
