"""One file of the hostile corpus: what it is, to whom it is sent, and which answers are right."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from plugins.forge import Forge

Reader = Literal["teacher", "dataset"]
Make = Callable[[Forge], bytes]


@dataclass(frozen=True)
class Case:
    """`codes` has the problems of which one must be told; none where the file is to be read, and does no harm."""

    family: str
    name: str
    reader: Reader
    make: Make
    codes: tuple[str, ...]
    where: str | None = None
    image_size: int | None = None

    def __str__(self) -> str:
        return f"{self.family}: {self.name}"


Row = tuple[Make, str] | tuple[Make, str, str]
"""How it is made; its codes, with `|` between them; where the problem lies, if that is to be looked at."""


def family(
    name: str, reader: Reader, rows: Mapping[str, Row], image_size: int | None = None
) -> Iterator[Case]:
    """The cases of one family."""
    for row, (make, codes, *where) in rows.items():
        yield Case(
            name,
            row,
            reader,
            make,
            tuple(filter(None, codes.split("|"))),
            where[0] if where else None,
            image_size,
        )
