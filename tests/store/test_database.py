"""Transactions mean the same on both databases."""

import logging
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import DBAPIError

from store import database
from store.columns import unix_now
from store.database import Database, has_wal_reset_bug, parse_url
from store.errors import UnsupportedUrl
from store.models import Sweep


def test_the_clock_is_the_databases_in_unix_seconds(db) -> None:
    before = time.time()
    with db.read() as session:
        now = session.scalar(select(unix_now()))
    assert before - 0.01 <= now <= time.time() + 0.01


def test_a_raise_takes_everything_back(db) -> None:
    def half() -> None:
        with db.write() as session:
            session.execute(update(Sweep).values(swept_at=5.0))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    with db.read() as session:
        assert session.scalar(select(Sweep.swept_at)) == 0.0


def test_a_read_can_not_write(db) -> None:
    with pytest.raises(DBAPIError, match=r"(?i)read-?only"), db.read() as session:
        session.execute(update(Sweep).values(swept_at=5.0))


def test_a_read_sees_one_state_throughout(db) -> None:
    with db.read() as reading:
        assert reading.scalar(select(Sweep.swept_at)) == 0.0
        with db.write() as writing:
            writing.execute(update(Sweep).values(swept_at=5.0))
        assert reading.scalar(select(Sweep.swept_at)) == 0.0


def test_no_update_of_many_threads_is_lost(db) -> None:
    def count(_number: int) -> None:
        for _ in range(20):
            with db.write() as session:
                row = session.scalar(select(Sweep).where(Sweep.name == "jobs").with_for_update())
                row.swept_at += 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(8)))
    with db.read() as session:
        assert session.scalar(select(Sweep.swept_at).where(Sweep.name == "jobs")) == 160.0


def test_foreign_keys_are_kept(db) -> None:
    with pytest.raises(DBAPIError, match=r"(?i)foreign key"), db.write() as session:
        session.execute(
            text(
                "INSERT INTO api_keys (id, project_id, name, secret_sha256, hint, scopes, created_at) "
                "VALUES ('k', 'prj_none', 'n', 'h', 'h', '[]', 0)"
            )
        )


def test_sqlite_is_set_up_to_lose_nothing(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path / 'new' / 'folder' / 'a.db'}")
    for transaction in (db.write, db.read):
        with transaction() as session:
            settings = [
                session.scalar(text(f"PRAGMA {name}"))
                for name in ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")
            ]
        assert settings == ["wal", 2, 30_000, 1]
    db.dispose()


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("postgresql://u:p@h/d", "postgresql+psycopg"),
        ("postgres://u:p@h/d", "postgresql+psycopg"),
        ("postgresql+asyncpg://u:p@h/d", "postgresql+psycopg"),
        ("sqlite:////a.db", "sqlite+pysqlite"),
    ],
)
def test_addresses_get_the_driver_that_is_there(url: str, driver: str) -> None:
    assert parse_url(url).drivername == driver


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://u:secret@h/d", "sqlite://", "sqlite:///:memory:"])
def test_other_addresses_are_refused_without_telling_a_password(url: str) -> None:
    with pytest.raises(UnsupportedUrl, match=r"sqlite:///path/to/file\.db or postgresql://") as caught:
        Database(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("version", "bad"),
    [((3, 40, 1), True), ((3, 44, 5), True), ((3, 44, 6), False), ((3, 50, 6), True), ((3, 50, 7), False),
     ((3, 51, 2), True), ((3, 51, 3), False), ((3, 52, 0), False), ((4, 0, 0), False)],
)  # fmt: skip
def test_which_sqlites_have_the_bug(version: tuple[int, int, int], bad: bool) -> None:
    assert has_wal_reset_bug(version) is bad


def test_an_old_sqlite_is_warned_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 50, 6))
    database._warn_of_old_sqlite.cache_clear()
    with caplog.at_level(logging.WARNING, "store.database"):
        for name in ("a", "b"):
            Database(f"sqlite:///{tmp_path / name}").dispose()
    assert len(caplog.records) == 1
    database._warn_of_old_sqlite.cache_clear()
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 51, 3))
    Database(f"sqlite:///{tmp_path / 'c'}").dispose()
    assert len(caplog.records) == 1
    database._warn_of_old_sqlite.cache_clear()
