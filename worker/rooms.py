"""The room that children train in where there are GPUs: as empty as it can be while torch can use a GPU in it."""

import logging
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import leash
from worker.forks import Forks
from worker.workspace import Workspace

GPU_QUESTION = "--gpu"
"""Instead of a workspace: a child ends with 0 where torch can use a GPU, or else its last line is the reason."""

PROBE = (sys.executable, "-P", "-m", "abcore.run", GPU_QUESTION)

PROBE_SECONDS = 120
SAID = "gpu-probe.txt"

_EVERYTHING = "everything that it gets elsewhere"
_GIVEN_UP: dict[str, dict[str, Any]] = {
    _EVERYTHING: {},
    "a network namespace of its own": {"network": True},
    "a view of its own files only": {"files": None},
    "a network namespace and a view of its files of its own": {"network": True, "files": None},
}

_log = logging.getLogger(__name__)


@dataclass
class TrainingRoom:
    """Asks once, with real children, what a GPU's driver needs. What uploads are opened in is never asked."""

    probe: tuple[str, ...] = PROBE
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _changes: dict[str, Any] | None = None
    _forks_see_gpu: bool | None = None

    def with_gpu(self, limits: leash.Limits, environment: Mapping[str, str], folder: Path) -> leash.Limits:
        """Return `limits`, less what must be given up for a child with this environment to see its GPU.

        Args:
            limits: of a child that trains.
            environment: of that child, its GPUs named in it.
            folder: its workspace.
        """
        with self._lock:
            if self._changes is None:
                self._changes = self._find(limits, environment, folder)
            return replace(limits, **self._changes)

    def forks_see_gpu(
        self, forks: Forks, limits: leash.Limits, environment: Mapping[str, str], workspace: Workspace
    ) -> bool:
        """Whether torch can use a GPU in a forked child; asked once there is somebody to fork one.

        It can if nothing has touched the driver in the process that forks, which no import should, and any may.
        """
        with self._lock:
            if self._forks_see_gpu is None:
                with (workspace.root / SAID).open("wb") as output:
                    child = forks.spawn([GPU_QUESTION], workspace, environment, output, limits)
                if child is None:
                    return False
                reason = _reason(child, workspace.root / SAID)
                self._forks_see_gpu = reason is None
                if reason is not None:
                    _log.warning(
                        "children that train on a GPU start slowly: in a forked one torch said %r", reason
                    )
            return self._forks_see_gpu

    def _find(self, limits: leash.Limits, environment: Mapping[str, str], folder: Path) -> dict[str, Any]:
        reasons: dict[str, str] = {}
        for what, changes in _GIVEN_UP.items():
            reason = self._why_no_gpu(replace(limits, **changes), environment, folder)
            if reason is None:
                if changes:
                    _log.warning(
                        "children train without %s: in the emptier room torch said %r of the GPU",
                        what,
                        reasons[_EVERYTHING],
                    )
                return changes
            reasons[what] = reason
        _log.warning("there is a GPU, and torch cannot use it in any room: %s", reasons[_EVERYTHING])
        return {}

    def _why_no_gpu(self, limits: leash.Limits, environment: Mapping[str, str], folder: Path) -> str | None:
        with (folder / SAID).open("wb") as output:
            child = leash.spawn(
                self.probe, cwd=folder, env=environment, stdout=output, stderr=output, limits=limits
            )
        return _reason(child, folder / SAID)


def _reason(child: leash.Leashed, said: Path) -> str | None:
    """Wait for a child that was asked about its GPU; None where it has one."""
    code = child.wait(PROBE_SECONDS)
    child.kill()
    child.wait()
    lines = said.read_text(errors="replace").strip().splitlines()
    said.unlink()
    if code == 0:
        return None
    return f"no word in {PROBE_SECONDS} s" if code is None else (lines or [f"exit code {code}"])[-1]
