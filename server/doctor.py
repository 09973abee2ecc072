"""What this machine has and lacks for the service, each with what to do about it."""

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from sqlalchemy.exc import SQLAlchemyError

from abcore.specs.outputs import FORMATS
from leash import Files, Limits, spawn
from server.broker import EmbeddedBroker
from server.errors import CannotStart
from store import schema
from store.blobs import open_blobs
from store.database import Database, has_wal_reset_bug
from store.errors import StoreError
from store.imports import Places
from store.settings import Settings

SCARCE_BYTES = 2 * 2**30
TORCH_SECONDS = 120
_TORCH_PROBE = """
import json, torch
from abcore.architectures.torchvision_import import import_torchvision
import_torchvision()
print(json.dumps({"torch": torch.__version__, "cuda": torch.cuda.is_available(),
    "device": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU"}))
"""


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `advice` says what to do where it is not fine."""

    name: str
    level: Literal["ok", "warning", "problem"]
    text: str
    advice: str = ""


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at one thing after the other; nothing is changed but the database's and blobs' folders being made."""
    checks: tuple[Callable[[Settings], Finding], ...] = (
        _python,
        _torch,
        _exports,
        _sqlite,
        _database,
        _broker,
        _blobs,
        _imports,
        _disk,
        _sandbox,
    )
    for check in checks:
        yield check(settings)


def _python(_settings: Settings) -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", "ok", f"{version} at {sys.executable}")


def _torch(settings: Settings) -> Finding:
    """In a process of its own: the supervisor stays small, and a broken torch cannot take it down."""
    try:
        probe = subprocess.run(  # noqa: S603 - our own interpreter and text
            [sys.executable, "-P", "-c", _TORCH_PROBE],
            capture_output=True,
            text=True,
            timeout=TORCH_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Finding(
            "torch", "problem", f"no import within {TORCH_SECONDS} s", "look at this machine's load"
        )
    if probe.returncode:
        reason = (probe.stderr.strip().splitlines() or ["no message"])[-1]
        return Finding("torch", "problem", reason, "install this package again, with -c constraints.txt")
    found = json.loads(probe.stdout)
    if settings.device.startswith("cuda") and not found["cuda"]:
        return Finding(
            "torch",
            "problem",
            f"{found['torch']} sees no GPU, but ABDISTILL_DEVICE is {settings.device}",
            "set ABDISTILL_DEVICE=auto, or install a CUDA build of torch and its driver",
        )
    return Finding("torch", "ok", f"{found['torch']}, {found['device']}")


def _exports(_settings: Settings) -> Finding:
    missing = sorted({library for facts in FORMATS.values() for library in facts.missing})
    if missing:
        made = ", ".join(name for name, facts in FORMATS.items() if not facts.missing)
        advice = "jobs that ask for ONNX are refused: install abdistill-server[export]"
        return Finding("exports", "warning", f"{made}; without {', '.join(missing)}", advice)
    return Finding("exports", "ok", ", ".join(FORMATS))


def _sqlite(settings: Settings) -> Finding:
    if not settings.database_url.startswith("sqlite"):
        return Finding("sqlite", "ok", "not used")
    version = sqlite3.sqlite_version
    if has_wal_reset_bug(sqlite3.sqlite_version_info):
        advice = "where data must not be lost use PostgreSQL, or SQLite 3.51.3, 3.50.7, 3.44.6 or newer"
        return Finding("sqlite", "warning", f"{version} has a rare bug in write-ahead logging", advice)
    return Finding("sqlite", "ok", version)


def _database(settings: Settings) -> Finding:
    try:
        db = Database(settings.database_url)
        try:
            revision = db.schema_revision()
        finally:
            db.dispose()
    except (StoreError, SQLAlchemyError) as error:
        reason = str(getattr(error, "orig", None) or error)
        return Finding("database", "problem", reason, "start it, or correct ABDISTILL_DATABASE_URL")
    if revision != schema.head():
        text = f"reached; schema {revision or 'none'}, wanted {schema.head()}"
        return Finding("database", "warning", text, "run `abdistill-server migrate` (`up` does it by itself)")
    return Finding("database", "ok", f"reached; schema {revision}")


def _broker(settings: Settings) -> Finding:
    if settings.broker_url is None:
        try:
            broker = EmbeddedBroker(settings.data_dir)
            return Finding(
                "broker", "ok", f"embedded, {'running' if broker.answers() else 'not running now'}"
            )
        except (CannotStart, OSError, RuntimeError) as error:
            return Finding("broker", "problem", str(error), "set ABDISTILL_BROKER_URL to a Redis or Valkey")
    url = urlsplit(settings.broker_url)
    try:
        if url.scheme in ("redis+socket", "unix"):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(2)
                connection.connect(url.path)
        else:
            socket.create_connection((url.hostname or "localhost", url.port or 6379), timeout=2).close()
    except OSError as error:
        place = url.path if url.scheme in ("redis+socket", "unix") else f"{url.hostname}:{url.port or 6379}"
        advice = "start it, or correct ABDISTILL_BROKER_URL; without one workers find jobs by polling, later"
        return Finding("broker", "warning", f"{place}: {error.strerror or error}", advice)
    return Finding("broker", "ok", "reached")


def _blobs(settings: Settings) -> Finding:
    try:
        open_blobs(settings.blobs_url).check()
    except (StoreError, OSError) as error:
        return Finding("blobs", "problem", str(error), "correct ABDISTILL_BLOBS_URL, or the folder's owner")
    return Finding("blobs", "ok", settings.blobs_url)


def _imports(settings: Settings) -> Finding:
    try:
        names = Places(settings.import_from).names
    except StoreError as error:
        return Finding("imports", "problem", str(error), "correct ABDISTILL_IMPORT_FROM")
    return Finding("imports", "ok", ", ".join(names) or "not allowed from anywhere")


def _disk(settings: Settings) -> Finding:
    folder = next(path for path in (settings.data_dir, *settings.data_dir.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    text = f"{free / 1e9:.1f} GB free at {folder}"
    if not os.access(folder, os.W_OK):
        return Finding("disk", "problem", f"{folder} cannot be written", "choose another with --data-dir")
    if free < SCARCE_BYTES:
        return Finding("disk", "warning", text, "make room, or choose another folder with --data-dir")
    return Finding("disk", "ok", text)


def _sandbox(_settings: Settings) -> Finding:
    """What the kernel grants for running what an upload may do: no network, files or processes but its own."""
    limits = Limits(network=False, new_privileges=False, processes=False, files=Files(("/",), ()))
    try:
        child = spawn(["/bin/true"], cwd=Path("/"), limits=limits)
        child.wait()
    except OSError as error:
        return Finding("sandbox", "problem", f"no process can be started on a leash: {error}")
    if child.missing:
        advice = (
            "uploads are checked with less isolation: allow user namespaces, or run the worker in a container"
        )
        return Finding("sandbox", "warning", "not granted: " + "; ".join(child.missing), advice)
    return Finding("sandbox", "ok", "children get no network, no files but their own, and no new privileges")
