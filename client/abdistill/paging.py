"""Lists, page by page."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from abdistill.models import Page
from abdistill.reports import Answer

Item = TypeVar("Item", bound=Answer)


def every(page_after: Callable[[str | None], Page[Item]]) -> Iterator[Item]:
    """All items of a list, of which `page_after` fetches the page at a cursor; None is the first."""
    page = page_after(None)
    yield from page.data
    while page.next_cursor:
        page = page_after(page.next_cursor)
        yield from page.data
