"""Folders of running attempts. Each worker has one of its own, and removes those of workers that died."""

import fcntl
import logging
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from abcore.specs.runs import HEADWAY, SHARED_ANSWERS, TEACHER_CACHE

_log = logging.getLogger(__name__)


class Workspace:
    """One attempt's folder, laid out as `abcore.specs.runs` says."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.run = root / "run.json"
        self.inputs = root / "inputs"
        self.checkpoints = root / "checkpoints"
        self.outputs = root / "outputs"
        self.events = root / "events.jsonl"
        self.log = root / "log.txt"
        self.temporary = root / "tmp"
        self.teacher_cache = root / TEACHER_CACHE
        self.shared_answers = root / SHARED_ANSWERS
        self.fetched = root / "fetched"
        self.headway = root / HEADWAY

    @property
    def written(self) -> tuple[Path, ...]:
        """What the child writes, or below which: all else it only reads."""
        folders = (self.checkpoints, self.outputs, self.temporary, self.teacher_cache)
        return (*folders, self.events, self.headway)

    def create(self) -> None:
        """Make the folders, and the files that the child may write but not make, all empty."""
        for folder in (self.inputs, self.checkpoints, self.outputs, self.temporary, self.teacher_cache):
            folder.mkdir(parents=True)
        for file in (self.events, self.headway):
            file.touch()

    def own_file(self, relative: str) -> Path:
        """Return a file that the child says it wrote.

        A child may have been taken over by what it read: its word is not a path to follow out of the workspace.

        Raises:
            ValueError: not a regular file of this workspace.
        """
        root = self.root.resolve()
        path = root / relative
        if path.resolve() != path or not path.is_relative_to(root) or not path.is_file():
            raise ValueError(f"{relative!r} is not a regular file of the workspace")
        return path

    def open_log(self) -> BinaryIO | None:
        """Open the child's log; None where it has none any more that is a file of its own.

        The child could put a link there, to a file that only the worker should read.
        """
        try:
            descriptor = os.open(self.log, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            return None
        return os.fdopen(descriptor, "rb")


class Workspaces:
    """This worker's folder below `root`, held by a lock that ends with the process, however it ends."""

    def __init__(self, root: Path, worker_id: str) -> None:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.root = root
        self._lock_path = root / f"{worker_id}.lock"
        self._lock = _locked(self._lock_path)
        self.mine = root / worker_id
        self.mine.mkdir(mode=0o700)

    def create(self, name: str) -> Workspace:
        """Make a fresh folder for one attempt."""
        workspace = Workspace(self.mine / name)
        workspace.create()
        return workspace

    def remove(self, workspace: Workspace) -> None:
        """Remove an attempt's folder and all that is in it."""
        _remove(workspace.root)

    @contextmanager
    def room(self, name: str) -> Iterator[Workspace]:
        """Make a folder, and remove it in the end."""
        workspace = self.create(name)
        try:
            yield workspace
        finally:
            self.remove(workspace)

    def sweep(self) -> list[str]:
        """Remove the folders of workers that are no more; return their ids."""
        swept = []
        for path in sorted(self.root.glob("*.lock")):
            if path == self._lock_path:
                continue
            try:
                lock = os.open(path, os.O_RDWR)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # its worker lives
            else:
                _remove(path.with_suffix(""))
                path.unlink(missing_ok=True)
                swept.append(path.stem)
            finally:
                os.close(lock)
        return swept

    def close(self) -> None:
        """Remove this worker's folder and its lock."""
        _remove(self.mine)
        self._lock_path.unlink(missing_ok=True)
        os.close(self._lock)


def _locked(path: Path) -> int:
    """Create and lock a file; again if a sweeping neighbour took it for a dead worker's in between."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink:
                return descriptor
        os.close(descriptor)


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        pass
    except OSError as error:  # it costs disk space; the job's outcome must not depend on it
        _log.warning("could not remove %s: %s", folder, error)
