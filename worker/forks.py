"""The process that children are forked from: what a child imports takes seconds, so one process has done it for all."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any

import leash
from leash.linux import IS_LINUX
from worker.workspace import Workspace, Workspaces

_log = logging.getLogger(__name__)


class Forks:
    """Has one fork server at most, and starts it anew when it has died. Thread-safe.

    Where there is none, or none yet, children are started in the long way.
    """

    def __init__(
        self,
        program: Sequence[str],
        workspaces: Workspaces,
        environment: Callable[[Workspace], dict[str, str]],
        grace_seconds: float,
        *,
        wanted: bool,
    ) -> None:
        """`program` is as `leash.ForkServer` wants it, `environment` what it sees of the world from its folder."""
        self._program = program
        self._workspaces = workspaces
        self._environment = environment
        self._grace_seconds = grace_seconds
        self._wanted = wanted and IS_LINUX
        self._lock = threading.Lock()
        self._server: leash.ForkServer | None = None
        self._workspace: Workspace | None = None

    def prepare(self) -> None:
        """See to it that there is one, or that it is getting ready."""
        with self._lock:
            if not self._wanted or (self._server is not None and self._server.lives):
                return
            self._discard()
            self._workspace = self._workspaces.create("fork-server")
            try:
                with self._workspace.log.open("ab") as log:
                    self._server = leash.ForkServer(
                        self._program,
                        cwd=self._workspace.root,
                        env=self._environment(self._workspace),
                        output=log,
                        grace_seconds=self._grace_seconds,
                    )
            except OSError as error:
                _log.warning("no process could be started to fork children from: %s", error)

    def spawn(
        self,
        arguments: Sequence[str],
        workspace: Workspace,
        environment: Mapping[str, str],
        output: IO[Any],
        limits: leash.Limits,
    ) -> leash.Leashed | None:
        """Fork a child; None where it must be started in the long way."""
        server = self._server
        if server is None or not server.ready:
            return None
        try:
            return server.spawn(
                arguments,
                cwd=workspace.root,
                env=environment,
                output=output,
                limits=limits,
                grace_seconds=self._grace_seconds,
            )
        except OSError as error:
            _log.warning("children are forked from another process from now on: %s", error)
            server.close()
            return None

    def close(self) -> None:
        """End it, and what it has forked."""
        with self._lock:
            self._wanted = False
            self._discard()

    def _discard(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._workspace is not None:
            self._workspaces.remove(self._workspace)
            self._workspace = None
