"""What a child sees of this machine's files: Python, its libraries, the system's, and its own workspace."""

import os
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import abcore
import leash
from store.settings import Settings
from worker.workspace import Workspace

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
_DEVICES = ("null", "zero", "full", "random", "urandom", "shm", "dri", "dxg", "kfd")


def files_of(workspace: Workspace, settings: Settings, command: tuple[str, ...]) -> leash.Files:
    """All files of a child. It reads its inputs and writes beside them; it does not change them.

    Nothing of the service's own folder is among it: the database, the API's key, other jobs. Paths that the command
    names are.
    """
    hidden = frozenset({settings.data_dir.resolve(), settings.workspace_dir.resolve()})
    readable, listable = _runtime(hidden, os.environ.get("LD_LIBRARY_PATH"), os.environ.get("CUDA_HOME"))
    named = tuple(word for word in command[1:] if os.path.isabs(word))
    return leash.Files(
        readable=(*readable, str(workspace.root)),
        writable=(*map(str, workspace.written), *map(str, _devices()), *named),
        listable=listable,
    )


@cache
def _runtime(
    hidden: frozenset[Path], *folders_of_libraries: str | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is to be read, and which folders must be listed, because Python looks for modules in them."""
    code = Path(abcore.__file__).resolve().parent.parent
    libraries = [path for told in folders_of_libraries if told for path in told.split(os.pathsep)]
    wanted = [*_SYSTEM, sys.prefix, sys.base_prefix, sys.exec_prefix, *sys.path, *libraries, str(code)]
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


def _devices() -> Iterator[Path]:
    yield from (Path("/dev") / name for name in _DEVICES)
    yield from Path("/dev").glob("nvidia*")
