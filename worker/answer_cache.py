"""What teachers answered, kept on a worker's machine from job to job.

A job's child reads and writes a folder of its workspace. Before it starts the worker links what is known for its
teacher and dataset into that folder; when it has ended in good order, what it added is moved here. So no child ever
writes where another reads, two that make the same file at once do not meet, and what a killed one left goes with its
workspace.
"""

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from store import datasets, teachers
from store.database import Database
from store.models import Job


def group_of(db: Database, job: Job) -> str | None:
    """Return the name under which jobs share answers: of one project, about one teacher and one dataset's content."""
    if job.kind != "distill" or job.teacher_id is None or job.dataset_id is None:
        return None
    shared = (
        job.project_id,
        teachers.get(db, job.project_id, job.teacher_id).sha256,
        datasets.get(db, job.project_id, job.dataset_id).sha256,
    )
    return hashlib.sha256("\n".join(map(str, shared)).encode()).hexdigest()[:32]


class AnswerCache:
    """Folders of files by group, the least recently used files removed first."""

    def __init__(self, root: Path, max_bytes: int) -> None:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._root = root
        self._max_bytes = max_bytes

    def lend(self, group: str, target: Path) -> None:
        """Link a group's files into `target`, read-only, where the file system has links; a copy would cost more."""
        target.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):
            for path in (self._root / group).iterdir():
                with suppress(OSError):
                    os.link(path, target / path.name)
                    os.utime(path)

    def keep(self, group: str, path: Path) -> None:
        """Link a complete file in as well, which stays where it is, and make room."""
        folder = self._root / group
        folder.mkdir(exist_ok=True, mode=0o700)
        with suppress(OSError):  # it is here, or on another file system
            os.link(path, folder / path.name)
        self._evict()

    def place(self, group: str, name: str) -> Path:
        """Return where a file is, if it is here; it may leave at any time."""
        return self._root / group / name

    def adopt(self, group: str, source: Path) -> list[str]:
        """Move the files of `source` that are new here, complete ones only, and make room; return their names."""
        adopted: list[str] = []
        if source.is_symlink() or not source.is_dir():
            return adopted
        folder = self._root / group
        folder.mkdir(exist_ok=True, mode=0o700)
        for path in source.iterdir():
            unfinished = path.name.startswith(".")
            if unfinished or path.is_symlink() or not path.is_file() or (folder / path.name).exists():
                continue
            path.chmod(0o444)
            _sync(path)
            with suppress(OSError):  # another file system: it is made again when it is needed again
                path.replace(folder / path.name)
                adopted.append(path.name)
        self._evict()
        return adopted

    def _evict(self) -> None:
        files = []
        for path in self._root.glob("*/*"):
            with suppress(FileNotFoundError):  # a neighbour evicts too
                stat = path.stat()
                files.append((stat.st_mtime, stat.st_size, path))
        excess = sum(size for _, size, _ in files) - self._max_bytes
        for _, size, path in sorted(files):
            if excess <= 0:
                break
            path.unlink(missing_ok=True)
            excess -= size
        for folder in self._root.iterdir():
            with suppress(OSError):  # not empty
                folder.rmdir()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
