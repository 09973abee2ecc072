"""`abdistill-server keys` and `migrate`, as an operator runs them."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from store.database import Database
from store.errors import Unauthenticated
from store.keys import authenticate
from store.settings import Settings

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "server", *words],
            env=dict(os.environ) | {"ABDISTILL_DATA_DIR": str(tmp_path)} | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return command


def test_a_key_is_shown_once_works_and_can_be_revoked(run: Run, tmp_path: Path) -> None:
    assert run("migrate").stdout == "the database is up to date\n"
    created = run("keys", "create", "ci", "--scope", "read")
    secret = created.stdout.strip()
    key_id = created.stderr.split()[0]
    db = Database(Settings(data_dir=tmp_path).database_url)
    assert authenticate(db, secret).scopes == {"read"}
    listed = run("keys", "list").stdout
    assert key_id in listed
    assert secret not in listed
    assert run("keys", "revoke", key_id).returncode == 0
    with pytest.raises(Unauthenticated):
        authenticate(db, secret)
    db.dispose()
    assert "revoked" in run("keys", "list").stdout


def test_a_project_has_keys_of_its_own_that_rotate(run: Run, tmp_path: Path) -> None:
    run("migrate")
    project = run("projects", "create", "vision").stdout.strip()
    assert project in run("projects", "list").stdout
    created = run("keys", "create", "ci", "--project", project, "--days", "30")
    assert "expires: 2" in created.stderr
    first, key_id = created.stdout.strip(), created.stderr.split()[0]
    second = run("keys", "rotate", key_id, "--project", project, "--overlap", "0").stdout.strip()
    db = Database(Settings(data_dir=tmp_path).database_url)
    assert authenticate(db, second).project_id == project
    with pytest.raises(Unauthenticated):
        authenticate(db, first)
    db.dispose()
    assert key_id in run("keys", "list", "--project", project).stdout
    assert key_id not in run("keys", "list").stdout


def test_a_project_is_given_limits(run: Run) -> None:
    run("migrate")
    project = run("projects", "create", "vision").stdout.strip()
    given = run("projects", "quota", project, "--stored-bytes", "5000", "--running-jobs", "2").stdout
    assert "0 of 5,000" in given
    assert "0 of any number" in given
    assert "0 of 2" in run("projects", "quota", project, "--stored-bytes", "none").stdout
    assert "5,000" not in run("projects", "quota", project).stdout


def test_mistakes_are_explained_without_a_traceback(run: Run) -> None:
    for said, code, words, environment in (
        ("read, submit, admin", 2, ("keys", "create", "x", "--scope", "rread"), {}),
        ("is no limit", 2, ("projects", "quota", "prj_default", "--running-jobs", "-1"), {}),
        ("no such table", 1, ("keys", "list"), {}),
        ("ABDISTILL_PORT", 1, ("migrate",), {"ABDISTILL_PORT": "many"}),
        ("a lease must outlive two lost heartbeats", 1, ("migrate",), {"ABDISTILL_LEASE_SECONDS": "5"}),
        ("Connection refused", 1, ("migrate",), {"ABDISTILL_DATABASE_URL": "postgresql://a:b@127.0.0.1:1/c"}),
    ):
        refused = run(*words, **environment)
        assert refused.returncode == code, refused.stderr
        assert said in refused.stderr
        assert "Traceback" not in refused.stderr
