"""What a worker process works with, made once from the settings."""

from dataclasses import dataclass

from store.blobs import BlobStore, open_blobs
from store.database import Database
from store.ids import new_id
from store.imports import Places
from store.queue import Doorbell
from store.settings import Settings
from worker.answer_cache import AnswerCache
from worker.cache import InputCache
from worker.guardian import CHILD_PROGRAM, Guardian
from worker.sharing import Sharing
from worker.workspace import Workspaces


@dataclass(frozen=True)
class Workshop:
    """Everything that attempts share."""

    worker_id: str
    settings: Settings
    db: Database
    blobs: BlobStore
    places: Places
    doorbell: Doorbell
    workspaces: Workspaces
    cache: InputCache
    answers: AnswerCache
    sharing: Sharing
    guardian: Guardian

    @classmethod
    def open(cls, settings: Settings, program: tuple[str, ...] = CHILD_PROGRAM) -> "Workshop":
        """Connect to what the settings name. `program` is what children run (see `Guardian`)."""
        worker_id = new_id("wrk")
        workspaces = Workspaces(settings.workspace_dir, worker_id)
        db, blobs = Database(settings.database_url), open_blobs(settings.blobs_url)
        answers = AnswerCache(settings.workspace_dir / "teacher-cache", settings.teacher_cache_bytes)
        return cls(
            worker_id=worker_id,
            settings=settings,
            db=db,
            blobs=blobs,
            places=Places(settings.import_from),
            doorbell=Doorbell(settings.broker_url),
            workspaces=workspaces,
            cache=InputCache(settings.workspace_dir / "cache", settings.input_cache_bytes),
            answers=answers,
            sharing=Sharing(db, blobs, answers, wanted=settings.shares_answers),
            guardian=Guardian(settings, workspaces, program),
        )

    def close(self) -> None:
        """End what children are forked from, remove this worker's folders, close its connections."""
        self.guardian.close()
        self.sharing.close()
        self.workspaces.close()
        self.doorbell.close()
        self.db.dispose()
