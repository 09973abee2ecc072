"""What teachers answered, from worker to worker: fetched from the blob store while a job runs, put there at its end.

Nothing of it is needed: whatever goes wrong here is a line of the log, and the teacher is asked instead.
"""

import logging
import os
import queue
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from types import TracebackType

from sqlalchemy.exc import SQLAlchemyError

from abcore.atomic import write_atomically
from store import shared_answers
from store.answer_models import SharedAnswers
from store.blobs import CHUNK_BYTES, Blob, BlobStore, keep_checked
from store.database import Database
from store.errors import BlobCorrupt, BlobError, BlobMissing
from worker.answer_cache import AnswerCache
from worker.workspace import Workspace

STOP_SECONDS = 5.0
"""Longest time that a job's end, or a worker's, waits for a transfer to notice that nobody wants it any more."""

MOST_FILES = 1000
"""Of one job; its views are a few."""

_NAME = re.compile(r"(signs|logits)-[0-9a-f]{40}", re.ASCII)
_log = logging.getLogger(__name__)
_TROUBLE = (OSError, BlobError, SQLAlchemyError)


class _NotWanted(Exception):
    """Nobody waits for the transfer any more."""


class Fetching:
    """What other workers have that an attempt may ask for, and the thread that fetches it.

    The child writes its `teacher-cache/`, but neither the list of what can be had nor the place where files arrive: a
    link into that folder gives it those whose sha256 is that of the row.
    """

    def __init__(
        self,
        db: Database,
        blobs: BlobStore,
        answers: AnswerCache,
        workspace: Workspace,
        group: str,
        rows: Sequence[SharedAnswers],
    ) -> None:
        self._db = db
        self._blobs = blobs
        self._answers = answers
        self._workspace = workspace
        self._group = group
        self._offered = {row.name: row for row in rows}
        self._over = Event()
        self._thread: Thread | None = None

    def __enter__(self) -> "Fetching":
        for path in self._workspace.teacher_cache.iterdir():
            self._offered.pop(path.name, None)
        if self._offered:
            self._write_list()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)

    def fetch(self, names: Sequence[str]) -> None:
        """Begin to fetch what is offered of `names`, in their order. A child asks once; more is not heard."""
        wanted = [self._offered[name] for name in dict.fromkeys(names) if name in self._offered]
        if wanted and self._thread is None:
            self._thread = Thread(target=self._run, args=(wanted,), name="answers fetcher", daemon=True)
            self._thread.start()

    def _run(self, wanted: list[SharedAnswers]) -> None:
        try:
            for row in wanted:
                self._fetch(row)
                del self._offered[row.name]
                self._write_list()
        except _NotWanted:
            return
        except _TROUBLE as error:
            _log.warning("answers of a teacher could not be fetched, it is asked again: %s", error)
            self._offered.clear()
            with suppress(OSError):  # the disk is full, or the attempt has ended and its folder is gone
                self._write_list()

    def _fetch(self, row: SharedAnswers) -> None:
        if self._over.is_set():
            raise _NotWanted
        path = self._workspace.fetched / row.name
        try:
            keep_checked(self._chunks(row.blob_key), row.blob_key, path, row.sha256)
        except (BlobMissing, BlobCorrupt) as error:
            _log.warning("answers of a teacher are not as they were put, it is asked again: %s", error)
            shared_answers.forget(self._db, row.id)
            self._blobs.delete(row.blob_key)
            return
        path.chmod(0o444)
        self._hand_over(path)
        self._answers.keep(self._group, path)
        shared_answers.touch(self._db, row.id)

    def _hand_over(self, path: Path) -> None:
        # Where the child has put a link in the folder's place, it is not followed.
        folder = os.open(self._workspace.teacher_cache, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            with suppress(FileExistsError):  # the child had no more patience, and has asked its teacher
                os.link(path, path.name, dst_dir_fd=folder)
        finally:
            os.close(folder)

    def _chunks(self, key: str) -> Iterator[bytes]:
        for chunk in self._blobs.open_range(key):
            if self._over.is_set():
                raise _NotWanted
            yield chunk

    def _write_list(self) -> None:
        listed = "".join(f"{name}\n" for name in self._offered)
        write_atomically(self._workspace.shared_answers, listed.encode())


class Sharing:
    """A worker's share of it: what its attempts may fetch, and a thread that puts what they have made."""

    def __init__(self, db: Database, blobs: BlobStore, answers: AnswerCache, *, wanted: bool) -> None:
        self._db = db
        self._blobs = blobs
        self._answers = answers
        self._wanted = wanted
        self._made: queue.SimpleQueue[tuple[str, str, str] | None] = queue.SimpleQueue()
        self._over = Event()
        self._thread = Thread(target=self._run, name="answers putter", daemon=True)
        if wanted:
            self._thread.start()

    def fetching(self, project_id: str, group: str | None, workspace: Workspace) -> Fetching:
        """Return what other workers have for an attempt of this group: nothing where they do not share."""
        rows: Sequence[SharedAnswers] = ()
        if self._wanted and group is not None:
            try:
                rows = shared_answers.find(self._db, project_id, group)
            except SQLAlchemyError as error:
                _log.warning("could not look for answers of teachers: %s", error)
        return Fetching(self._db, self._blobs, self._answers, workspace, group or "", rows)

    def put(self, project_id: str, group: str, names: Sequence[str]) -> None:
        """Have files of a group put into the blob store, after those that already wait.

        A child may have been taken over: what has no name of such a file is left out, and what is too much.
        """
        if self._wanted:
            for name in [name for name in names if _NAME.fullmatch(name)][:MOST_FILES]:
                self._made.put((project_id, group, name))

    def close(self) -> None:
        """Stop. What was not put yet stays with this machine."""
        self._over.set()
        self._made.put(None)
        if self._wanted:
            self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        while (made := self._made.get()) is not None and not self._over.is_set():
            try:
                self._put(*made)
            except _NotWanted:
                return
            except FileNotFoundError:
                continue  # the cache had no room for it any more
            except _TROUBLE as error:
                _log.warning("answers of a teacher were not shared: %s", error)

    def _put(self, project_id: str, group: str, name: str) -> None:
        if shared_answers.has(self._db, project_id, group, name):
            return
        blob = self._copy(self._answers.place(group, name), shared_answers.new_key(project_id, group))
        if not shared_answers.add(self._db, project_id, group, name, blob):
            self._blobs.delete(blob.key)

    def _copy(self, path: Path, key: str) -> Blob:
        with path.open("rb") as source, self._blobs.writer(key) as out:
            while chunk := source.read(CHUNK_BYTES):
                if self._over.is_set():
                    raise _NotWanted
                out.write(chunk)
            return out.commit()
