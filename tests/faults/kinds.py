"""What is done to the service. Each fault says whether it hit: one that found nothing to hit does not count."""

import resource
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Literal, NamedTuple

from abdistill import ApiError, ConnectionFailed
from sqlalchemy import select, text, update

from faults.processes import Kept, below, parent_of, send, wait_until
from faults.service import LEASE_SECONDS, RECIPES, Service
from store.job_models import Worker
from store.models import ENDED, Job, Sweep
from store.queue import Doorbell

FORKER = "leash.forker"
HOUR_SECONDS = 3600.0
SEARCH_SECONDS = 5.0
COMMIT_SECONDS = 10.0

Fault = Callable[[Service, Random], bool]


class Kind(NamedTuple):
    """A fault, and whose affair it is: those of one `place` come one after the other, of two at once."""

    name: str
    place: Literal["workers", "front", "ground", "clock"]
    do: Fault
    applies: Callable[[Service], bool] = lambda _service: True


class Tree(NamedTuple):
    """A worker and what it holds: the process that forks, the two processes of a leash, and the child on it."""

    worker: Kept
    fork_server: int | None
    guardian: int
    keeper: int | None
    child: int | None


Part = Literal["fork_server", "guardian", "keeper", "child"]


def trees_of(worker: Kept) -> list[Tree]:
    """One for each leash that a worker holds, that of its fork server included."""
    told = below(worker.pid)
    parents = {pid: parent_of(pid) for pid in told}
    leashes = [pid for pid in told if parents[pid] == worker.pid]
    servers = [pid for pid in told if FORKER in told[pid] and parents.get(parents[pid]) in leashes]
    trees = []
    for guardian in leashes + [pid for pid in told if parents[pid] in servers]:
        keepers = [pid for pid in told if parents[pid] == guardian]
        children = [pid for pid in told if parents[pid] in keepers and pid not in servers]
        parts = (servers, [guardian], keepers, children)
        trees.append(Tree(worker, *((pids or [None])[0] for pids in parts)))
    return trees


def tree_with(service: Service, random: Random, part: Part) -> Tree | None:
    """A random one that has this part; children come and go, so this waits a while for one."""
    deadline = time.monotonic() + SEARCH_SECONDS
    while time.monotonic() < deadline:
        trees = [tree for worker in service.workers for tree in trees_of(worker)]
        found = [tree for tree in trees if getattr(tree, part) is not None]
        if found:
            return random.choice(found)
        time.sleep(0.02)
    return None


def kill_one(part: Part) -> Fault:
    def kill(service: Service, random: Random) -> bool:
        tree = tree_with(service, random, part)
        if tree is None:
            return False
        pid = getattr(tree, part)
        leashed = below(pid if part == "fork_server" else tree.guardian)
        hit = send([pid], signal.SIGKILL)
        service.watch_for_orphans(part, leashed)
        return hit

    return kill


def freeze_one(part: Part) -> Fault:
    def freeze(service: Service, random: Random) -> bool:
        tree = tree_with(service, random, part)
        return tree is not None and _frozen([getattr(tree, part)], random.uniform(0.5, 3.0))

    return freeze


def kill_worker(service: Service, random: Random) -> bool:
    return _kill(service, random.choice(service.workers))


def kill_api(service: Service, random: Random) -> bool:
    return _kill(service, service.api)


def roll_out_worker(service: Service, random: Random) -> bool:
    random.choice(service.workers).signal(signal.SIGTERM)
    return True


def roll_out_api(service: Service, random: Random) -> bool:
    service.api.signal(signal.SIGTERM)
    return True


def freeze_worker(service: Service, random: Random) -> bool:
    return _frozen([random.choice(service.workers).pid], random.uniform(0.5, 3.0))


def freeze_worker_beyond_its_lease(service: Service, random: Random) -> bool:
    """Another takes its job meanwhile; what it does when it thaws must count for nothing."""
    return _frozen([random.choice(service.workers).pid], LEASE_SECONDS + 2.0)


def freeze_api(service: Service, random: Random) -> bool:
    return _frozen([service.api.pid], random.uniform(0.5, 3.0))


def fill_the_workers_disk(service: Service, random: Random) -> bool:
    """Nothing that a worker or its child writes fits, rows and checkpoints and outputs alike."""
    with _no_room_for(random.choice(service.workers).pid):
        time.sleep(random.uniform(0.5, 2.0))
    return True


def fill_the_apis_disk(service: Service, random: Random) -> bool:
    """An upload finds no room: it is refused, nothing of it stays, and it may be sent again."""
    refused = []

    def send_without_room(id_: str, path: Path) -> None:
        with _no_room_for(service.api.pid):
            try:
                service.impatient.datasets.upload(id_, path)
            except (ApiError, ConnectionFailed) as error:
                refused.append(error)

    service.upload_another(random, send_without_room)
    return bool(refused)


def kill_describer(service: Service, random: Random) -> bool:
    told = below(service.api.pid)
    describers = [
        pid for pid, command in told.items() if "abcore.describe" in command and "leash" not in command
    ]
    return send(describers, signal.SIGKILL)


def kill_api_between_commit_and_ring(service: Service, random: Random) -> bool:
    """A frozen broker holds the ring up; the row is committed, the answer not sent. The user asks again, and waits."""
    key, broker, hit = uuid.uuid4().hex, service.broker, False
    recipe = random.randrange(len(RECIPES))
    broker.signal(signal.SIGSTOP)
    try:
        user = threading.Thread(target=service.submit, args=(recipe, key))
        user.start()
        deadline = time.monotonic() + COMMIT_SECONDS
        while not hit and user.is_alive() and time.monotonic() < deadline:
            hit = bool(service.ask(select(Job.id).where(Job.idempotency_key == key)))
        if hit:
            hit = _kill(service, service.api)
    finally:
        broker.signal(signal.SIGCONT)
    user.join()
    return hit


def ring_again_and_again(service: Service, random: Random) -> bool:
    bell = Doorbell(service.settings.broker_url)
    bell.ring(20)
    bell.close()
    return True


def vanish_in_mid_upload(service: Service, random: Random) -> bool:
    """A client sends half of its file and is gone, politely or not."""
    hit = []

    def send_half(id_: str, path: Path) -> None:
        content, host, port = path.read_bytes(), "127.0.0.1", int(service.url.rsplit(":", 1)[1])
        key = service.client._transport._http.headers["Authorization"]  # as this user would send it
        head = f"PUT /v1/datasets/{id_}/content HTTP/1.1\r\nHost: {host}\r\nAuthorization: {key}\r\n"
        with suppress(OSError), socket.create_connection((host, port), timeout=10.0) as connection:
            if random.random() < 0.5:  # a reset instead of an end
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode())
            connection.sendall(content[: len(content) // 2])
            time.sleep(random.uniform(0.0, 0.3))
            hit.append(id_)

    service.upload_another(random, send_half)
    return bool(hit)


def pause_and_resume(service: Service, random: Random) -> bool:
    found = service.ask(select(Job.id).where(Job.state.not_in(ENDED), Job.kind == "distill"))
    if not found:
        return False
    id_, hit = random.choice(found).id, False
    with suppress(ApiError):  # it has ended meanwhile: a conflict
        service.insist(lambda: service.client.jobs.pause(id_))

        def settled() -> bool:
            ((state, stop),) = service.ask(select(Job.state, Job.stop_requested).where(Job.id == id_))
            return state in (*ENDED, "paused") or (state == "queued" and stop is None)

        wait_until(settled, 60.0, f"{id_} pauses or ends")
        service.insist(lambda: service.client.jobs.resume(id_))
        hit = True
    return hit


def kill_broker(service: Service, random: Random) -> bool:
    service.broker.kill()
    return True


def freeze_broker(service: Service, random: Random) -> bool:
    return _frozen([service.broker.pid], random.uniform(1.0, 8.0))


def flush_broker(service: Service, random: Random) -> bool:
    with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5.0)
        connection.connect(str(service.broker_files.socket_path))
        connection.sendall(b"FLUSHALL\r\n")
        return connection.recv(64).startswith(b"+OK")
    return False


def kill_database(service: Service, random: Random) -> bool:
    assert service.ground.postgres is not None
    service.ground.postgres.kill()
    return True


def freeze_database(service: Service, random: Random) -> bool:
    assert service.ground.postgres is not None
    pid = service.ground.postgres.pid
    return _frozen([pid, *below(pid)], random.uniform(0.5, 3.0))


def hold_the_write_lock(service: Service, random: Random) -> bool:
    """SQLite has one: whoever wants to write waits."""
    with service.db.write() as session:
        session.execute(text("SELECT 1"))
        time.sleep(random.uniform(0.5, 3.0))
    return True


def kill_s3(service: Service, random: Random) -> bool:
    assert service.ground.s3 is not None
    service.ground.s3.stop()
    service.ground.s3.start()
    return True


def freeze_s3(service: Service, random: Random) -> bool:
    assert service.ground.s3 is not None
    with service.ground.s3.frozen():
        time.sleep(random.uniform(0.5, 3.0))
    return True


def jump(seconds: float) -> Fault:
    """The database's clock jumps. No clock is touched: all times that it gave out are moved the other way."""

    def set_clock(service: Service, random: Random) -> bool:
        running = update(Job).where(Job.state == "running")
        service.change(
            running.values(lease_expires_at=Job.lease_expires_at - seconds),
            update(Job).values(not_before=Job.not_before - seconds),
            update(Sweep).values(swept_at=Sweep.swept_at - seconds),
            update(Worker).values(seen_at=Worker.seen_at - seconds),
        )
        return True

    return set_clock


def _on_sqlite(service: Service) -> bool:
    return service.ground.postgres is None


def _elsewhere(service: Service) -> bool:
    return service.ground.postgres is not None


KINDS = (
    Kind("worker: kill -9", "workers", kill_worker),
    Kind("worker: SIGTERM (roll-out)", "workers", roll_out_worker),
    Kind("worker: SIGSTOP, thaws in time", "workers", freeze_worker),
    Kind("worker: SIGSTOP beyond its lease", "workers", freeze_worker_beyond_its_lease),
    Kind("worker: disk full", "workers", fill_the_workers_disk),
    Kind("fork server: kill -9", "workers", kill_one("fork_server")),
    Kind("fork server: SIGSTOP", "workers", freeze_one("fork_server")),
    Kind("guardian: kill -9", "workers", kill_one("guardian")),
    Kind("guardian: SIGSTOP", "workers", freeze_one("guardian")),
    Kind("guardian's keeper: kill -9", "workers", kill_one("keeper")),
    Kind("guardian's keeper: SIGSTOP", "workers", freeze_one("keeper")),
    Kind("child: kill -9", "workers", kill_one("child")),
    Kind("child: SIGSTOP", "workers", freeze_one("child")),
    Kind("API: kill -9", "front", kill_api),
    Kind("API: SIGTERM (roll-out)", "front", roll_out_api),
    Kind("API: SIGSTOP", "front", freeze_api),
    Kind("API: kill -9 between commit and ring", "front", kill_api_between_commit_and_ring),
    Kind("API: disk full during an upload", "front", fill_the_apis_disk, _on_sqlite),
    Kind("API's describer: kill -9", "front", kill_describer),
    Kind("client vanishes in mid-upload", "front", vanish_in_mid_upload),
    Kind("job paused and resumed", "front", pause_and_resume),
    Kind("broker: kill -9", "ground", kill_broker),
    Kind("broker: SIGSTOP", "ground", freeze_broker),
    Kind("broker: FLUSHALL", "ground", flush_broker),
    Kind("broker: 20 rings too many", "ground", ring_again_and_again),
    Kind("database: kill -9", "ground", kill_database, _elsewhere),
    Kind("database: SIGSTOP", "ground", freeze_database, _elsewhere),
    Kind("database: write lock held", "ground", hold_the_write_lock, _on_sqlite),
    Kind("database's clock: an hour on", "clock", jump(HOUR_SECONDS)),
    Kind("database's clock: an hour back", "clock", jump(-HOUR_SECONDS)),
    Kind("S3: kill -9", "ground", kill_s3, _elsewhere),
    Kind("S3: SIGSTOP", "ground", freeze_s3, _elsewhere),
)


def _kill(service: Service, kept: Kept) -> bool:
    processes = below(kept.pid)
    kept.kill()
    service.watch_for_orphans(kept.name, processes)
    return True


def _frozen(pids: list[int], seconds: float) -> bool:
    hit = send(pids, signal.SIGSTOP)
    time.sleep(seconds)
    send(pids, signal.SIGCONT)
    return hit


@contextmanager
def _no_room_for(pid: int) -> Iterator[None]:
    """No file of a process, or of what it started, may grow: writing fails as on a full disk, and needs no root."""
    _limit([pid, *below(pid)], 0)
    try:
        yield
    finally:
        _limit([pid, *below(pid)], None)


def _limit(pids: list[int], file_bytes: int | None) -> None:
    """None: as large as they may be; a child that reads an upload has an end of its own."""
    for pid in pids:
        with suppress(ProcessLookupError):
            hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard if file_bytes is None else file_bytes, hard))
