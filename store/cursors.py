"""Pages of a list, by keyset: a cursor names the last row seen, so rows added meanwhile repeat and hide nothing."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from store.errors import BadCursor

Row = TypeVar("Row")
Key = tuple[Any, ...]


@dataclass(frozen=True)
class Page(Generic[Row]):
    """Some rows of a list, and where to go on; `next_cursor` is None on the last page."""

    items: list[Row]
    next_cursor: str | None


def encode(key: Key) -> str:
    """Return the opaque form of a row's sort key."""
    return urlsafe_b64encode(json.dumps(key, separators=(",", ":")).encode()).decode().rstrip("=")


def decode(cursor: str, types: Sequence[type]) -> Key:
    """Return the sort key in a cursor.

    Raises:
        BadCursor: it does not hold values of these types.
    """
    try:
        key = json.loads(urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)))
    except ValueError:  # covers bad base64, bad UTF-8, bad JSON and characters beyond ASCII
        raise BadCursor from None
    if (
        not isinstance(key, list)
        or [type(value) for value in key] != list(types)
        or encode(tuple(key)) != cursor
    ):
        raise BadCursor
    return tuple(key)


def paginate(
    session: Session,
    rows: Select[Row],
    columns: Sequence[InstrumentedAttribute[Any]],
    types: Sequence[type],
    *,
    limit: int,
    cursor: str | None,
    descending: bool = False,
    order: str = "",
) -> Page[Row]:
    """Return up to `limit` rows in the order of `columns`, which together must be unique.

    `order` names it where a list has several: a cursor of one is refused by the others.

    Raises:
        BadCursor
    """
    if cursor is not None:
        order_before, *key = decode(cursor, (str, *types))
        if order_before != order:
            raise BadCursor(
                f"The cursor is one of the list by {order_before!r}: go on with that order, or without it."
            )
        place, after = tuple_(*columns), tuple_(*key)
        rows = rows.where(place < after if descending else place > after)
    sorted_by = [column.desc() if descending else column.asc() for column in columns]
    found = list(session.scalars(rows.order_by(*sorted_by).limit(limit + 1)))
    items = found[:limit]
    if len(found) <= limit:
        return Page(items, None)
    last = items[-1]
    return Page(items, encode((order, *(getattr(last, column.key) for column in columns))))
