"""From the child's event file and its log to the store, in batches."""

from collections.abc import Callable, Sequence

from abcore.events import AnswersWanted, CheckpointSaved, EventReader, Failed, Record
from abcore.specs.refusals import Problem
from store import logs, progress
from store.blobs import BlobStore
from store.database import Database
from store.leases import Lease
from worker import checkpoints
from worker.log_reader import LogReader
from worker.workspace import Workspace

MOST_IN_A_BATCH = 1000


class BrokenProtocol(Exception):
    """The child wrote an event that is none."""


class Relay:
    """Moves what the child tells and logs to the store, and its newest checkpoint to the blob store.

    `problems` is what the child gave as the reason for its refusal.
    """

    def __init__(
        self,
        db: Database,
        blobs: BlobStore,
        lease: Lease,
        workspace: Workspace,
        fetch_answers: Callable[[Sequence[str]], None],
    ) -> None:
        self.problems: tuple[Problem, ...] = ()
        self._db = db
        self._blobs = blobs
        self._lease = lease
        self._workspace = workspace
        self._fetch_answers = fetch_answers
        self._reader = EventReader(workspace.events)
        self._waiting: list[Record] = []
        self._unkept: CheckpointSaved | None = None
        self._log = LogReader(workspace) if lease.job.kind in logs.KEPT_KINDS else None
        self._unlogged: list[str] = []

    def pump(self, *, last: bool = False) -> None:
        """Pass on what is new. After an error the records wait here for the next call.

        `last`: the child has ended, and so has the last line of its log.

        Raises:
            LeaseLost
            BrokenProtocol
        """
        self._keep_log(last=last)
        try:
            self._waiting.extend(self._reader.read())
        except ValueError as error:
            raise BrokenProtocol(f"the child wrote an event that cannot be read: {error}") from error
        while batch := self._waiting[:MOST_IN_A_BATCH]:
            progress.record(self._db, self._lease, batch)
            del self._waiting[: len(batch)]
            self._look_at(batch)
        if self._unkept is not None:
            checkpoints.upload(self._db, self._blobs, self._lease, self._workspace, self._unkept)
            self._unkept = None

    def _keep_log(self, *, last: bool) -> None:
        if self._log is None:
            return
        if not self._unlogged:  # while the database is away the rest waits in its file
            self._unlogged = self._log.read(last=last)
        while self._unlogged:
            logs.append(self._db, self._lease, self._unlogged)
            self._unlogged = self._log.read(last=last)

    def _look_at(self, batch: list[Record]) -> None:
        for record in batch:
            match record:
                case CheckpointSaved():
                    self._unkept = record  # only the newest is worth its upload
                case AnswersWanted():
                    self._fetch_answers(record.files)
                case Failed():
                    self.problems = record.problems
