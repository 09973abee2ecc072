"""The spawner's side of a process that forks commands."""

import json
import os
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from leash.forker import MOST_BYTES
from leash.limits import Limits
from leash.spawning import Leashed, spawn

_SETTLE_SECONDS = 5.0  # what leashes need at most to clean up after the grace
PATIENCE_SECONDS = 10.0
"""In this time a command starts, or the server is frozen, and no good."""


class ForkServer:
    """Starts commands of one program on leashes, each a fork of a process that has imported it. Linux; thread-safe.

    It is on a leash itself, and what it has forked ends with it.
    """

    def __init__(
        self,
        program: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        output: int | IO[Any],
        grace_seconds: float = 10.0,
    ) -> None:
        """Start it; it is ready later.

        Args:
            program: as `leash.forker` has it.
            cwd, env: its own, which what it imports may see; its commands have theirs.
            output: where it and what it imports write to.
            grace_seconds: how long it waits for its commands when this process has died; not less than theirs.

        Raises:
            OSError: it could not be started.
        """
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(PATIENCE_SECONDS)
        self._lock = threading.Lock()
        self._ready = False
        try:
            self._process = spawn(
                [sys.executable, "-P", "-m", "leash.forker", *program],
                cwd=cwd,
                env=env,
                stdin=theirs.fileno(),
                stdout=output,
                stderr=output,
                limits=Limits(core_bytes=0),
                grace_seconds=grace_seconds + _SETTLE_SECONDS,
            )
        except BaseException:
            self._socket.close()
            raise
        finally:
            theirs.close()

    @property
    def pid(self) -> int:
        """The process that forks."""
        return self._process.command_pid

    @property
    def lives(self) -> bool:
        """Whether it has not ended, as far as is known."""
        return self._process.wait(0) is None

    @property
    def ready(self) -> bool:
        """Whether it has imported its program and waits for commands."""
        with self._lock:
            if not self._ready:
                with suppress(OSError):
                    self._ready = self._socket.recv(MOST_BYTES, socket.MSG_DONTWAIT) != b""
        return self._ready and self.lives

    def spawn(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        output: IO[Any],
        limits: Limits,
        grace_seconds: float,
    ) -> Leashed:
        """Start a command; `leash.spawn` says what the arguments mean. Its standard input is empty.

        Raises:
            OSError: it did not start: the server has died, or did not answer in time. It is of no use any more, and
                should be closed, as a frozen one might still begin when it thaws.
        """
        request = {
            "arguments": list(arguments),
            "cwd": str(cwd),
            "env": dict(env),
            "limits": asdict(limits),
            "grace_seconds": grace_seconds,
        }
        control_read, control_write = os.pipe()
        status_read, status_write = os.pipe()
        try:
            message = json.dumps(request).encode()
            socket.send_fds(self._socket, [message], [output.fileno(), control_read, status_write])
        except BaseException:
            os.close(control_write)
            os.close(status_read)
            raise
        finally:
            os.close(control_read)
            os.close(status_write)
        return Leashed(None, control_write, status_read, PATIENCE_SECONDS)

    def close(self) -> None:
        """End it and all that it has forked."""
        self._process.kill()
        self._process.wait()
        self._socket.close()
