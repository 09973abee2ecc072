"""Types and expressions that mean the same on SQLite and on PostgreSQL."""

import json
import math
from typing import Any

from sqlalchemy import JSON, Double, MetaData, String
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

json_type = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


class Base(DeclarativeBase):
    """The base of all rows. Constraints get names, so that a migration can speak of them."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )


class unix_now(FunctionElement[float]):  # noqa: N801 - reads as the SQL function that it is, like sqlalchemy's own
    """The database's clock in UNIX seconds, a float; one value for a whole statement."""

    type = Double()
    inherit_cache = True


@compiles(unix_now, "sqlite")
def _sqlite_now(_element: unix_now, _compiler: SQLCompiler, **_options: Any) -> str:
    # unixepoch('subsec') needs SQLite 3.42; a Julian day as a double is good to 0.1 ms.
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(unix_now, "postgresql")
def _postgresql_now(_element: unix_now, _compiler: SQLCompiler, **_options: Any) -> str:
    # now() would be the transaction's start, which may lie before a wait for a lock; clock_timestamp() is volatile
    # and so could use no index.
    return "CAST(EXTRACT(EPOCH FROM statement_timestamp()) AS DOUBLE PRECISION)"


def storable(value: Any) -> Any:
    """Return JSON-like `value` with what PostgreSQL refuses replaced: NUL, lone surrogates, NaN and infinities.

    Log lines and exception texts come from processes that an upload may control; a NUL in one of them must not
    make it impossible to record how a job ended.
    """
    match value:
        case str():
            return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {storable(str(key)): storable(item) for key, item in value.items()}
        case list() | tuple():
            return [storable(item) for item in value]
        case _:
            return value


def to_json(value: Any) -> str:
    """Serialise a JSON column."""
    return json.dumps(storable(value), allow_nan=False, separators=(",", ":"))


class CleanString(TypeDecorator[str]):
    """Text from outside: any Python string can be stored, and looked for."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - sqlalchemy's signature
        """Replace what a database cannot hold."""
        return None if value is None else str(storable(value))
