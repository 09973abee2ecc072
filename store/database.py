"""Transactions on SQLite or PostgreSQL, with the same meaning on both."""

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, Literal

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session, sessionmaker

from store.columns import to_json
from store.errors import UnsupportedUrl

BUSY_SECONDS = 30

_log = logging.getLogger(__name__)
_commits = count(1)


class Database:
    """One database's connections: `write()` and `read()` transactions. Threads may share it, forks may not."""

    last_commit: ClassVar[int] = 0
    """Another number after each transaction of this process that may have written, whichever database it was in."""

    def __init__(self, url: str) -> None:
        """Open lazily: the first transaction connects.

        Raises:
            UnsupportedUrl: neither a SQLite file nor PostgreSQL.
        """
        self.url = parse_url(url)
        if self.url.get_backend_name() == "sqlite":
            _warn_of_old_sqlite()
            self._writer = sqlite_engine(self.url, "IMMEDIATE")
            self._reader = sqlite_engine(self.url, "DEFERRED", query_only=True)
        else:
            # pre_ping: a restarted database costs a reconnect, not an error for every pooled connection.
            self._writer = create_engine(
                self.url, json_serializer=to_json, pool_size=10, max_overflow=40, pool_pre_ping=True
            )
            self._reader = self._writer.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
        self._write_session = sessionmaker(self._writer, expire_on_commit=False)
        self._read_session = sessionmaker(self._reader, expire_on_commit=False)

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that may write; committed when the block ends, rolled back when it raises.

        On SQLite it takes the database's one write lock at its start: a read followed by a write in it sees no
        other writer in between.
        """
        try:
            with self._write_session.begin() as session:
                yield session
        finally:
            Database.last_commit = next(_commits)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A transaction that sees one state of the database throughout, and in which a write is an error."""
        with self._read_session.begin() as session:
            yield session

    def schema_revision(self) -> str | None:
        """Return the migration that the database is at, or None where it was never migrated."""
        with self.read() as session:
            if not inspect(session.connection()).has_table("alembic_version"):
                return None
            revision: str | None = session.scalar(text("SELECT version_num FROM alembic_version"))
            return revision

    def dispose(self) -> None:
        """Close all idle connections."""
        self._writer.dispose()
        self._reader.dispose()


def parse_url(url: str) -> URL:
    """Return the address with the driver that is installed.

    Raises:
        UnsupportedUrl: not an address, not SQLite or PostgreSQL, or a SQLite database without a file.
    """
    accepted = "use sqlite:///path/to/file.db or postgresql://user:password@host/name"
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise UnsupportedUrl(f"The database_url is not an address: {accepted}.") from None
    match parsed.get_backend_name():
        case "postgresql" | "postgres":
            return parsed.set(drivername="postgresql+psycopg")
        case "sqlite" if parsed.database and parsed.database != ":memory:":
            return parsed.set(drivername="sqlite+pysqlite")
        case "sqlite":
            raise UnsupportedUrl(
                f"A SQLite database in memory cannot be shared by API and worker: {accepted}."
            )
        case other:
            raise UnsupportedUrl(f"The database_url is of kind {other!r}: {accepted}.")


def sqlite_engine(
    url: URL, begin: Literal["IMMEDIATE", "DEFERRED"], *, query_only: bool = False, foreign_keys: bool = True
) -> Engine:
    """Return an engine whose transactions begin as told.

    Python's sqlite3 begins transactions by itself, deferred and late: two that read and then write lose updates
    without an error. `isolation_level=None` switches that off; the begin hook states it.
    """
    engine = create_engine(url, json_serializer=to_json, pool_size=10, max_overflow=40)

    def set_up(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA foreign_keys = {'ON' if foreign_keys else 'OFF'}")
        connection.execute(f"PRAGMA query_only = {'ON' if query_only else 'OFF'}")

    def start(connection: Connection) -> None:
        connection.exec_driver_sql(f"BEGIN {begin}")

    event.listen(engine, "connect", set_up)
    event.listen(engine, "begin", start)
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    return engine


def has_wal_reset_bug(version: tuple[int, int, int]) -> bool:
    """Whether this SQLite can, very rarely, corrupt a database under concurrent checkpoints (sqlite.org/wal.html)."""
    fixed_in = {(3, 44): (3, 44, 6), (3, 50): (3, 50, 7)}
    return version < fixed_in.get(version[:2], (3, 51, 3))


@cache
def _warn_of_old_sqlite() -> None:
    if has_wal_reset_bug(sqlite3.sqlite_version_info):
        _log.warning(
            "SQLite %s has a rare bug in write-ahead logging (fixed in 3.51.3, 3.50.7 and 3.44.6): "
            "update it, or use PostgreSQL, where a database must not be lost",
            sqlite3.sqlite_version,
        )
