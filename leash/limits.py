"""What a command may use; taken away between fork and exec, where it cannot be taken back."""

import resource
from dataclasses import dataclass

from leash import linux


@dataclass(frozen=True)
class Limits:
    """Limits of the command and of everything it starts. None leaves what the spawner has.

    `network=False` and `new_privileges=False` are asked of the kernel; where it refuses, the command runs all the
    same and `Leashed.missing` says what could not be had.
    """

    core_bytes: int | None = None
    open_files: int | None = None
    address_space_bytes: int | None = None
    network: bool = True
    new_privileges: bool = True

    def apply(self) -> list[str]:
        """Limit this process for good, and return in words what the kernel did not grant."""
        for kind, wanted in (
            (resource.RLIMIT_CORE, self.core_bytes),
            (resource.RLIMIT_NOFILE, self.open_files),
            (resource.RLIMIT_AS, self.address_space_bytes),
        ):
            if wanted is not None:
                _lower(kind, wanted)
        missing = []
        for wanted, what, give_up in (
            (not self.network, "a network namespace of its own", linux.leave_network),
            (not self.new_privileges, "no_new_privs", linux.set_no_new_privileges),
        ):
            if wanted:
                try:
                    give_up()
                except OSError as error:
                    missing.append(f"{what}: {error.strerror}")
        return missing


def _lower(kind: int, wanted: int) -> None:
    hard = resource.getrlimit(kind)[1]
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(kind, (limit, limit))
