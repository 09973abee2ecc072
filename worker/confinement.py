"""What a child sees of this machine's files: Python, its libraries, the system's, and its own workspace."""

import os
from collections.abc import Iterator
from pathlib import Path

import abcore
import leash
from leash.runtime import runtime
from store.settings import Settings
from worker.workspace import Workspace

_DEVICES = ("null", "zero", "full", "random", "urandom", "shm", "dri", "dxg", "kfd")


def files_of(workspace: Workspace, settings: Settings, program: tuple[str, ...]) -> leash.Files:
    """All files of a child. It reads its inputs and writes beside them; it does not change them.

    Nothing of the service's own folder is among it: the database, the API's key, other jobs. Paths that the program's
    words name are.
    """
    hidden = frozenset({settings.data_dir.resolve(), settings.workspace_dir.resolve()})
    code = Path(abcore.__file__).resolve().parent.parent
    readable, listable = runtime(code, hidden, os.environ.get("LD_LIBRARY_PATH"), os.environ.get("CUDA_HOME"))
    named = tuple(word for word in program if os.path.isabs(word))
    return leash.Files(
        readable=(*readable, str(workspace.root)),
        writable=(*map(str, workspace.written), *map(str, _devices()), *named),
        listable=listable,
    )


def _devices() -> Iterator[Path]:
    yield from (Path("/dev") / name for name in _DEVICES)
    yield from Path("/dev").glob("nvidia*")
