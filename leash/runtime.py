"""The files that Python, its libraries and the system need: what a confined child may read besides its own."""

import os
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

_SYSTEM = (
    "/bin",
    "/lib",
    "/lib64",
    "/opt",
    "/proc",  # of other processes it can read no memory and no environment: that too is refused
    "/sbin",
    "/sys",
    "/usr",
    *(f"/etc/{name}" for name in ("group", "ld.so.cache", "localtime", "nsswitch.conf", "passwd")),
)


@cache
def runtime(
    code: Path, hidden: frozenset[Path], *lists: str | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what is to be read, and which folders must be listed, because Python looks for modules in them.

    Args:
        code: the folder of the program's own packages.
        hidden: folders of which nothing is to be seen, wherever they lie.
        lists: further folders, in lists as LD_LIBRARY_PATH is one; None is passed over.
    """
    folders = [path for told in lists if told for path in told.split(os.pathsep)]
    wanted = [*_SYSTEM, sys.prefix, sys.base_prefix, sys.exec_prefix, *sys.path, *folders, str(code)]
    readable: list[Path] = []
    listable: list[Path] = []
    for path in {Path(path).resolve() for path in wanted if path}:
        _around(path, hidden, readable, listable)
    return tuple(map(str, readable)), tuple(map(str, listable))


def _around(path: Path, hidden: Iterable[Path], readable: list[Path], listable: list[Path]) -> None:
    """All of `path` but for what is hidden in it: what lies beside it, on each level down to it."""
    if any(path.is_relative_to(place) for place in hidden):
        return
    if not any(place.is_relative_to(path) for place in hidden):
        readable.append(path)
        return
    listable.append(path)
    for entry in _entries(path):
        _around(entry, hidden, readable, listable)


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:  # it is not there, or not ours
        return []
