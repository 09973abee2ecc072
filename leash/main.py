"""The leash itself: `python -I -S leash/main.py SETTINGS COMMAND...`, by `leash.spawn`; or forked by `leash.forker`.

Two processes watch: the outer one, which the spawner holds by a pipe, and the keeper below it, the parent of the
command. Each adopts what is orphaned below it. Killing either with -9 therefore ends the command too: the survivor
sees a pipe close or a child end, and kills the rest. The pipes carry lines:

    spawner -> outer -> keeper      terminate | kill | signal NUMBER | until SECONDS (on the monotonic clock)
    keeper -> spawner               one JSON object when the command has started, one when all has ended
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # -I leaves it out

from leash import linux
from leash.limits import Files, Limits
from leash.watch import Watch

Command = Callable[[Callable[[], None]], None]
"""Becomes the command, and never returns; calls what it is given at the last moment at which it could fail to."""

_SETTLE_SECONDS = 3.0  # what the outer process leaves the keeper to clean up before it does so itself


def main() -> None:
    """Read the settings and be the leash of a command that is to be executed."""
    settings, command = json.loads(sys.argv[1]), sys.argv[2:]
    os.set_inheritable(settings["control"], False)
    os.set_inheritable(settings["status"], False)
    hold(settings, partial(_execute, command))


def hold(settings: dict[str, Any], command: Command) -> None:
    """Become the outer process, fork the keeper, watch until nothing is left.

    Args:
        settings: the descriptors `control` and `status`, `grace_seconds`, and `limits`, a `Limits` as a dict.
        command: what is called below both, in a process of its own.
    """
    control, status, grace_seconds = settings["control"], settings["status"], settings["grace_seconds"]
    if linux.IS_LINUX:
        linux.adopt_orphans()
    from_outer, to_keeper = os.pipe()
    keeper = os.fork()
    if keeper == 0:
        os.close(control)
        os.close(to_keeper)
        os._exit(_keep(command, _limits(settings["limits"]), from_outer, status, grace_seconds))
    os.close(from_outer)
    _let_go_of_the_commands_files()
    Watch(
        keeper,
        control,
        terminate=lambda: _write_line(to_keeper, "terminate"),
        send_signal=lambda number: _write_line(to_keeper, f"signal {number}"),
        at_end_of_file="terminate",
        grace_seconds=grace_seconds + _SETTLE_SECONDS,
    ).run()


def _limits(told: dict[str, Any]) -> Limits:
    files = told.pop("files")
    return Limits(**told, files=Files(**files) if files is not None else None)


def _keep(command: Command, limits: Limits, control: int, status: int, grace_seconds: float) -> int:
    if linux.IS_LINUX:
        linux.adopt_orphans()
    keeper = os.getpid()
    started, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(started)
        _become(command, limits, tell, keeper)
    os.close(tell)
    with os.fdopen(started) as file:
        _write_line(status, file.read() or json.dumps({"error": "it died before it ran", "errno": None}))
    _let_go_of_the_commands_files()
    watch = Watch(
        child,
        control,
        terminate=lambda: _signal_group(child),
        send_signal=lambda number: os.kill(child, number),  # not yet collected, so it is still the command
        at_end_of_file="kill",  # the outer process always says what it wants: silence means that it was killed
        grace_seconds=grace_seconds,
    )
    _write_line(status, json.dumps({"returncode": watch.run()}))
    return 0


def _become(command: Command, limits: Limits, tell: int, keeper: int) -> None:
    """In the forked child: own group, limits, the command. What came of it goes through the pipe `tell`."""
    try:
        os.setpgid(0, 0)
        missing = limits.apply()
        if linux.IS_LINUX:  # last, because leaving the network changes credentials
            linux.die_with_parent(signal.SIGKILL)
            if os.getppid() != keeper:
                os._exit(1)
        command(lambda: _write(tell, json.dumps({"pid": os.getpid(), "missing": missing})))
    except Exception as error:
        told = {"error": str(error), "errno": getattr(error, "errno", None)}
        _write(tell, "\n" + json.dumps(told))
    finally:
        os._exit(127)


def _execute(command: list[str], begins: Callable[[], None]) -> None:
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and exec would hand that on
        signal.signal(number, signal.SIG_DFL)
    executable = command[0] if os.sep in command[0] else _found(command[0])
    begins()
    os.execv(executable, command)  # noqa: S606 - the command is the spawner's, and no shell reads it


def _found(name: str) -> str:
    for folder in os.get_exec_path():
        path = os.path.join(folder, name)
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    return name


def _let_go_of_the_commands_files() -> None:
    """Standard input and output belong to the command: held here too, their other ends would never see it end."""
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.close(nothing)


def _signal_group(group: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # it may just have ended
        os.killpg(group, signal.SIGTERM)


def _write_line(descriptor: int, line: str) -> None:
    with suppress(BrokenPipeError):  # who would have read it is gone, which the watch notices by itself
        _write(descriptor, line + "\n")


def _write(descriptor: int, text: str) -> None:
    os.write(descriptor, text.encode())


if __name__ == "__main__":
    main()
