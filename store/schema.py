"""Bring a database to this version's schema; any number of processes may do it at once."""

from importlib.resources import files

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text

from store.database import parse_url, sqlite_engine

_ADVISORY_LOCK = 0x61626469  # any number that nothing else in the database uses


def upgrade(url: str) -> None:
    """Run the migrations that are missing, in one transaction that holds off everyone else who would."""
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        # Altering a table in SQLite means building it anew, which must not cascade to the rows that refer to it.
        engine = sqlite_engine(parsed, "IMMEDIATE", foreign_keys=False)
    else:
        engine = create_engine(parsed)
    config = _config()
    try:
        with engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        engine.dispose()


def head() -> str:
    """Return the revision that `Database.schema_revision` must give for this version to work."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None, "the distribution has no migrations"
    return revision


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("migrations")).replace("%", "%%"))
    return config
