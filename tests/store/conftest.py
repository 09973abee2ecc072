"""A migrated database of each kind for every test, and a hand that fills it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from plugins.postgres import copied_database
from sqlalchemy import create_engine, make_url

from store import schema
from store.database import Database


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file at the newest schema; copy it."""
    path = tmp_path_factory.mktemp("migrated") / "template.db"
    schema.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def migrated_postgres(postgres_url: str) -> str:
    """The name of a PostgreSQL database at the newest schema; copy it."""
    engine = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE DATABASE migrated")
    engine.dispose()
    schema.upgrade(make_url(postgres_url).set(database="migrated").render_as_string(hide_password=False))
    return "migrated"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a migrated database of this test's own."""
    if request.param == "sqlite":
        path = tmp_path / "store.db"
        shutil.copy(request.getfixturevalue("migrated_sqlite"), path)
        yield f"sqlite:///{path}"
    else:
        template = request.getfixturevalue("migrated_postgres")
        yield from copied_database(request.getfixturevalue("postgres_url"), template)


@pytest.fixture
def db(url: str) -> Iterator[Database]:
    """A migrated database, on SQLite and on PostgreSQL."""
    database = Database(url)
    yield database
    database.dispose()
