"""Bring the database to this version's schema, or say what stands in the way."""

from sqlalchemy.exc import OperationalError

from server.errors import CannotStart
from store import schema
from store.database import parse_url
from store.errors import UnsupportedUrl


def migrate(database_url: str) -> None:
    """Run the missing migrations.

    Raises:
        CannotStart: the database cannot be reached, or its address is none.
    """
    try:
        schema.upgrade(database_url)
    except UnsupportedUrl as error:
        raise CannotStart(f"ABDISTILL_DATABASE_URL: {error}") from error
    except OperationalError as error:
        shown = parse_url(database_url).render_as_string(hide_password=True)
        reason = str(error.orig).partition("\n")[0]
        raise CannotStart(
            f"The database at {shown} cannot be used: {reason}. Is it running, and is ABDISTILL_DATABASE_URL right?"
        ) from error
