"""`abdistill-server up`: which processes the service is made of, in which order, and what is printed about them."""

import fcntl
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from server.access import KEY_FILE, local_key
from server.address import answers, free_port, url_of, write_address
from server.broker import PREDECESSOR_SECONDS, EmbeddedBroker
from server.console import Console
from server.errors import CannotStart
from server.migrating import migrate
from server.supervisor import Service, Stopped, Supervisor
from store.blobs import open_blobs
from store.database import Database
from store.errors import UnsupportedUrl
from store.imports import Places
from store.settings import Settings

ADDRESS_FILE = "address.json"
WORKER_READY = " ready."  # what Celery says once it listens to the broker
PYTHON = (sys.executable, "-P")  # -P: what lies in the current folder is not the service


def up(settings: Settings, console: Console) -> None:
    """Run the service until SIGINT or SIGTERM; a second one ends it without grace.

    Raises:
        CannotStart: something is in the way; whatever had been started is stopped again.
    """
    _check_addresses(settings)
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    supervisor = Supervisor(console)
    with ExitStack() as cleanup:
        cleanup.enter_context(_only_one(settings.data_dir))
        cleanup.enter_context(_signals_to(supervisor))
        address_file = settings.data_dir / ADDRESS_FILE
        # Left behind by a server that was killed: its processes may still be on their way out.
        patience = PREDECESSOR_SECONDS if address_file.exists() else 0.0
        address_file.unlink(missing_ok=True)
        cleanup.callback(address_file.unlink, missing_ok=True)
        cleanup.callback(supervisor.shut_down)
        try:
            url, key = _start_all(settings, supervisor, patience)
            write_address(address_file, url)
            _greet(console, url, key, settings.data_dir)
            supervisor.run()
        except Stopped:
            pass
        console.say("stopping; once more Ctrl-C ends it at once")
    console.say("stopped")


def _check_addresses(settings: Settings) -> None:
    """Look at what would otherwise end the API or the worker as they start; whether it answers is seen later."""
    for name, told, read in (
        ("ABDISTILL_BLOBS_URL", settings.blobs_url, open_blobs),
        ("ABDISTILL_IMPORT_FROM", settings.import_from, Places),
    ):
        try:
            read(told)
        except UnsupportedUrl as error:
            raise CannotStart(f"{name}: {error}") from None


def _start_all(settings: Settings, supervisor: Supervisor, patience_seconds: float) -> tuple[str, str]:
    port = free_port(settings.host, settings.port, patience_seconds=patience_seconds)
    settings = settings.model_copy(update={"port": port})
    if settings.broker_url is None:
        broker = EmbeddedBroker(settings.data_dir)
        broker.wait_for_predecessor()
        supervisor.start(Service("broker", broker.command, dict(os.environ), lambda _lines: broker.answers()))
        settings = settings.model_copy(update={"broker_url": broker.url})
    migrate(settings.database_url)
    db = Database(settings.database_url)
    try:
        key = local_key(db, settings.data_dir)
    finally:
        db.dispose()
    url = url_of(settings.host, port)
    environment = child_environment(settings)
    supervisor.start(Service("api", [*PYTHON, "-m", "api"], environment, lambda _lines: answers(url)))
    supervisor.start(worker_service(settings, environment))
    return url, key


def child_environment(settings: Settings) -> dict[str, str]:
    """This process's environment with every setting spelled out, so that all processes agree."""
    told = settings.model_dump(exclude_none=True)
    return dict(os.environ) | {f"ABDISTILL_{name.upper()}": str(value) for name, value in told.items()}


def worker_service(settings: Settings, environment: Mapping[str, str]) -> Service:
    """The worker; it checkpoints what it is at when it is asked to stop, so its grace is the children's and more."""
    return Service(
        "worker",
        [*PYTHON, "-m", "worker"],
        environment,
        is_ready=lambda lines: any(WORKER_READY in line for line in lines),
        grace_seconds=settings.grace_seconds + 10,
    )


def _greet(console: Console, url: str, key: str, data_dir: Path) -> None:
    console.say(f"abdistill is at {url} (its API: {url}/docs)")
    console.say(f"    export ABDISTILL_URL={url}")
    console.say(f"    export ABDISTILL_API_KEY={key}")
    console.say(f"the key is kept in {data_dir / KEY_FILE}; Ctrl-C stops everything")


@contextmanager
def _only_one(data_dir: Path) -> Iterator[None]:
    """Hold the folder's lock, which the kernel releases however this process ends."""
    with (data_dir / "up.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise CannotStart(
                f"Another abdistill-server (pid {lock.read().strip() or 'unknown'}) uses {data_dir}. "
                "Stop it, or give this one another --data-dir."
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


@contextmanager
def _signals_to(supervisor: Supervisor) -> Iterator[None]:
    """Turn SIGINT, SIGTERM and SIGHUP into an orderly stop, and a second one into a quick one."""

    def ask(_number: int, _frame: FrameType | None) -> None:
        supervisor.ask_to_stop()

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
