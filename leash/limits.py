"""What a command may use; taken away between fork and exec, where it cannot be taken back."""

import resource
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from leash import landlock, linux, seccomp

_LAST_WORDS_SECONDS = 10


@dataclass(frozen=True)
class Limits:
    """Limits of the command and of everything it starts. None leaves what the spawner has.

    The sizes and times are granted everywhere. After `cpu_seconds` comes SIGXCPU, ten seconds later SIGKILL; a file
    that grows beyond `file_bytes` costs SIGXFSZ. `network`, `new_privileges`, `processes` (others than the command
    itself; threads are free) and `files` are asked of the kernel; where it refuses one, the command runs all the same
    and `Leashed.missing` says what could not be had.
    """

    core_bytes: int | None = None
    open_files: int | None = None
    address_space_bytes: int | None = None
    file_bytes: int | None = None
    cpu_seconds: int | None = None
    network: bool = True
    new_privileges: bool = True
    processes: bool = True
    files: "Files | None" = None

    def apply(self) -> list[str]:
        """Limit this process for good, and return in words what the kernel did not grant."""
        for kind, wanted in (
            (resource.RLIMIT_CORE, self.core_bytes),
            (resource.RLIMIT_NOFILE, self.open_files),
            (resource.RLIMIT_AS, self.address_space_bytes),
            (resource.RLIMIT_FSIZE, self.file_bytes),
        ):
            if wanted is not None:
                _lower(kind, wanted)
        if self.cpu_seconds is not None:
            _lower(resource.RLIMIT_CPU, self.cpu_seconds, _LAST_WORDS_SECONDS)
        missing = []
        for what, give_up in self._asked_for():
            try:
                give_up()
            except OSError as error:
                missing.append(f"{what}: {error.strerror}")
        return missing

    def _asked_for(self) -> list[tuple[str, Callable[[], None]]]:
        """In an order in which none stands in another's way: the later ones want no_new_privs."""
        asked: list[tuple[str, Callable[[], None]]] = []
        if not self.network:
            asked.append(("a network namespace of its own", linux.leave_network))
        if not self.new_privileges:
            asked.append(("no_new_privs", linux.set_no_new_privileges))
        if self.files is not None:
            confine = partial(landlock.confine, self.files.readable, self.files.writable, self.files.listable)
            asked.append(("a view of its own files only (Landlock)", confine))
        if not self.processes:
            asked.append(
                ("a filter that keeps it from starting processes (seccomp)", seccomp.start_no_processes)
            )
        return asked


@dataclass(frozen=True)
class Files:
    """The only files and folders there are. Of a `listable` folder, and of those below it, only names are seen."""

    readable: tuple[str, ...]
    writable: tuple[str, ...]
    listable: tuple[str, ...] = ()


def _lower(kind: int, wanted: int, more_before_the_end: int = 0) -> None:
    hard = resource.getrlimit(kind)[1]
    end = wanted + more_before_the_end
    limit = end if hard == resource.RLIM_INFINITY else min(end, hard)
    resource.setrlimit(kind, (min(wanted, limit), limit))
