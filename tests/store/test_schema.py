"""Migrations: they build the models, on both databases, and may be run by several processes at once."""

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from migrations.check import differences, main
from store import schema
from store.database import Database, parse_url


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'folder' / '100% new.db'}"
    return str(request.getfixturevalue("fresh_postgres_url"))


def test_migrations_and_models_agree(empty_url: str) -> None:
    assert differences(empty_url) == []


def test_the_check_tells_a_difference(empty_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    schema.upgrade(empty_url)
    engine = create_engine(parse_url(empty_url))
    with engine.begin() as connection:
        connection.execute(text("DROP INDEX ix_jobs_leased"))
        connection.execute(text("ALTER TABLE jobs ADD COLUMN more TEXT"))
    engine.dispose()
    assert main([empty_url]) == 1
    printed = capsys.readouterr().out
    assert "ix_jobs_leased" in printed
    assert "more" in printed


def test_the_check_passes_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "agree" in capsys.readouterr().out


def test_a_database_knows_its_revision(empty_url: str) -> None:
    database = Database(empty_url)
    assert database.schema_revision() is None
    schema.upgrade(empty_url)
    assert database.schema_revision() == schema.head()
    database.dispose()


_MIGRATOR = """
import sys
from store.schema import upgrade
print("ready", flush=True)
sys.stdin.readline()
upgrade(sys.argv[1])
"""


def test_processes_that_migrate_at_once_all_succeed(empty_url: str) -> None:
    started = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", _MIGRATOR, empty_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            text=True,
        )
        for _ in range(4)
    ]
    for process in started:
        assert process.stdout.readline() == "ready\n"
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    errors = [process.communicate()[1] for process in started]
    assert [process.returncode for process in started] == [0] * 4, errors
    database = Database(empty_url)
    with database.read() as session:
        assert session.scalar(text("SELECT count(*) FROM projects")) == 1
    database.dispose()
