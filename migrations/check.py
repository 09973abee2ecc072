"""`python -m migrations.check [URL]`: do migrations and models agree? Without a URL, on a new SQLite file."""

import sys
import tempfile
from pathlib import Path
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from store import schema
from store.columns import Base
from store.database import parse_url
from store.models import Job


def differences(url: str) -> list[Any]:
    """Migrate the database, and return what alembic would still change to make it fit the models."""
    assert Job.metadata is Base.metadata, "the models must be imported for the metadata to know them"
    schema.upgrade(url)
    engine = create_engine(parse_url(url))
    try:
        with engine.connect() as connection:
            found: list[Any] = compare_metadata(MigrationContext.configure(connection), Base.metadata)
            return found
    finally:
        engine.dispose()


def main(arguments: list[str]) -> int:
    """Print the differences; return how the process shall exit."""
    with tempfile.TemporaryDirectory(prefix="abdistill-check-") as folder:
        found = differences(arguments[0] if arguments else f"sqlite:///{Path(folder) / 'check.db'}")
    for difference in found:
        print("models and migrations differ:", difference)
    print("Models and migrations agree." if not found else "Write a migration for these differences.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
