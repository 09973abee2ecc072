"""A process that imports a program once, and forks for each command: a command then starts in milliseconds.

`python -P -m leash.forker PROGRAM...`, started by `leash.ForkServer`. PROGRAM is `-m MODULE` or a path, as for Python
itself, and arguments that every command has. Its module has `get_ready()`, which is called once and must leave no
thread behind, and `main(arguments)`, which is called in each forked process and returns an exit code.

Standard input is a socket of whole messages. Each is a JSON object and three descriptors: where the command's output
goes, and the leash's two pipes. What is forked is the leash of `leash.main`, and below it the command. Where nobody is
left to send a message, this process waits for its commands to end, too.
"""

import gc
import importlib
import importlib.util
import json
import os
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import ModuleType
from typing import Any

from leash.main import hold
from leash.watch import STOP_SIGNALS

READY = b"ready"
MOST_BYTES = 2**17
_MOST_DESCRIPTORS = 4096


def main() -> None:
    """Get ready, say so, and fork for each message until there is nobody left to send any."""
    requests = socket.socket(fileno=os.dup(0))
    program, arguments = _load(sys.argv[1:])
    program.get_ready()
    gc.collect()
    gc.freeze()  # what is shared with the forked stays shared: their collectors leave it alone
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel collects the leashes
    for number in STOP_SIGNALS:  # sent to all processes at once they would end this one before its commands
        signal.signal(number, signal.SIG_IGN)
    requests.send(READY)
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, MOST_BYTES, 3)
        if not message:
            break
        with suppress(OSError):  # no process to be had: the spawner sees its pipe close
            if os.fork() == 0:
                requests.close()
                _begin(json.loads(message), descriptors, partial(_call, program.main, arguments))
        for descriptor in descriptors:
            os.close(descriptor)
    with suppress(ChildProcessError):
        os.wait()  # for all: each sees its spawner's pipe close, and has its grace


def _load(words: list[str]) -> tuple[ModuleType, list[str]]:
    if words[0] == "-m":
        return importlib.import_module(words[1]), words[2:]
    spec = importlib.util.spec_from_file_location("program", words[0])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module, words[1:]


def _begin(request: dict[str, Any], descriptors: list[int], call: Callable[..., None]) -> None:
    """Become a leash in a session of its own, with nothing of this process but what it has imported."""
    try:
        output, control, status = descriptors
        os.write(status, json.dumps({"leash": os.getpid()}).encode() + b"\n")
        for number in (signal.SIGCHLD, *STOP_SIGNALS):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        os.close(nothing)
        os.close(output)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        tempfile.tempdir = None  # looked up once, in this process's environment
        hold(
            {
                "control": control,
                "status": status,
                "grace_seconds": request["grace_seconds"],
                "limits": request["limits"],
            },
            partial(call, request["arguments"]),
        )
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def _call(
    program: Callable[[list[str]], int], fixed: list[str], arguments: list[str], begins: Callable[[], None]
) -> None:
    """Be the command: as if it had been executed, no descriptor is left but its output."""
    begins()
    os.closerange(3, _MOST_DESCRIPTORS)
    code = 1
    try:
        code = int(program([*fixed, *arguments]) or 0)
    except SystemExit as end:
        if isinstance(end.code, str):  # as Python does it
            print(end.code, file=sys.stderr)
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
