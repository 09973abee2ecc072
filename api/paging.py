"""The query parameters that all lists have."""

from typing import Annotated

from fastapi import Query

Limit = Annotated[int, Query(ge=1, le=100, description="Most objects on a page.")]
Cursor = Annotated[
    str | None,
    Query(
        max_length=1000, description="`next_cursor` of the page before, with the same filters; none begins."
    ),
]
