"""Pickles that run code when they are loaded, by many routes and in many hiding places."""

import ctypes
import functools
import gzip
import importlib
import io
import logging
import operator
import os
import pickle
import pty
import runpy
import shutil
import socket
import subprocess
import tempfile
import timeit
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.utils.collect_env
from hostile.case import Case, Make, Row, family
from plugins.forge import Forge

FOREIGN = "checkpoint.foreign_object"
CANARY = Path(tempfile.gettempdir()) / f"abdistill-canary-{os.getuid()}"
"""The file that a pickle of the corpus leaves behind if it runs. The same in each run: the corpus is the same bytes."""


class Calls:
    """An object whose unpickling calls a function, which may be such an object itself."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> Any:
        return self._call

    def __call__(self) -> None:
        """What is to be called must look callable; nobody does it here."""


def gadgets(canary: Path) -> dict[str, Calls]:
    """Objects that leave the file `canary` behind when they are unpickled, each by another way to run code."""
    touch, path = f"touch {canary}", str(canary)
    source = f"open({path!r}, 'w').close()"
    return {
        "os.system": Calls(os.system, touch),
        "os.mkdir": Calls(os.mkdir, path),
        "os.symlink": Calls(os.symlink, os.devnull, path),
        "os.spawnlp": Calls(os.spawnlp, os.P_WAIT, "touch", "touch", path),
        "subprocess.call": Calls(subprocess.call, ["touch", path]),
        "subprocess.check_output": Calls(subprocess.check_output, touch.split()),
        "eval": Calls(eval, source),
        "exec": Calls(exec, source),
        "open": Calls(open, path, "w"),
        "getattr of a module": Calls(Calls(getattr, Calls(importlib.import_module, "os"), "system"), touch),
        "__import__": Calls(Calls(getattr, Calls(__import__, "os"), "system"), touch),
        "operator.methodcaller": Calls(
            Calls(operator.methodcaller, "system", touch), Calls(importlib.import_module, "os")
        ),
        "functools.partial": Calls(functools.partial(os.system, touch)),
        "timeit.timeit": Calls(timeit.timeit, source, "pass", timeit.default_timer, 1),
        "pty.spawn": Calls(pty.spawn, ["touch", path]),
        "logging.FileHandler": Calls(logging.FileHandler, path),
        "gzip.open": Calls(gzip.open, path, "w"),
        "zipfile.ZipFile": Calls(zipfile.ZipFile, path, "w"),
        "numpy's runstring": Calls(np.testing.runstring, source, {}),
        "numpy.savetxt": Calls(np.savetxt, path, [1]),
        "torch.save": Calls(torch.save, {}, path),
        "torch.utils.collect_env": Calls(torch.utils.collect_env.run, touch),
    }


GADGETS = gadgets(CANARY)
_FORBIDDEN: dict[str, Calls] = {
    "bytearray of 6 GB": Calls(bytearray, 6 * 10**9),
    "shutil.rmtree": Calls(shutil.rmtree, "x"),
    "torch.hub.load": Calls(torch.hub.load, "a", "b"),
    "torch.load without weights_only": Calls(torch.load, "x"),
    "numpy.load": Calls(np.load, "x", None, True),
    "runpy.run_path": Calls(runpy.run_path, "x"),
    "ctypes.CDLL": Calls(ctypes.CDLL, "libc.so.6"),
    "socket.create_connection": Calls(socket.create_connection, ("127.0.0.1", 9)),
}
_EVIL = GADGETS["os.system"]
_PLACES: dict[str, Callable[[Forge], Any]] = {
    "at the top": lambda _: _EVIL,
    "beside the weights": lambda forge: {"state_dict": forge.state(), "epoch": _EVIL},
    "in a key": lambda forge: {"state_dict": forge.state(), (_EVIL,): 1},
    "deep in the arguments": lambda forge: {"state_dict": forge.state(), "args": [[{"x": (_EVIL,)}]]},
}


def _saved(content: Callable[[Forge], Any], protocol: int) -> Make:
    return lambda forge: forge.torch(content(forge), pickle_protocol=protocol)


def _bare(protocol: int) -> Make:
    return lambda _: pickle.dumps(_EVIL, protocol=protocol)


def _program(program: bytes) -> Make:
    return lambda forge: forge.torch_zip(program)


def _old_format(forge: Forge) -> bytes:
    return forge.torch({"a": torch.zeros(2), "b": _EVIL}, _use_new_zipfile_serialization=False)


def _within_a_zip(forge: Forge) -> bytes:
    """The checkpoint of a checkpoint: the outer one is no file of torch.save."""
    return forge.zip({"archive/inner.pt": forge.torch(_EVIL)})


def _in_a_storage(forge: Forge) -> bytes:
    """Honest at the first look; the second storage's bytes are a pickle, which nobody may open."""
    inner = pickle.dumps(_EVIL)
    content = io.BytesIO(forge.torch({"a": torch.frombuffer(bytearray(inner), dtype=torch.uint8)}))
    return content.getvalue()


def cases() -> Iterator[Case]:
    """All of them."""
    calls = {name: (_saved(lambda _, evil=evil: {"a": evil}, 2), FOREIGN) for name, evil in GADGETS.items()}  # type: ignore[misc]
    yield from family("pickles that run a command", "teacher", calls)
    forbidden: dict[str, Row] = {
        name: (_saved(lambda _, evil=evil: {"a": evil}, 2), FOREIGN)  # type: ignore[misc]
        for name, evil in _FORBIDDEN.items()
    }
    yield from family("pickles that call what they must not", "teacher", forbidden)
    yield from family(
        "pickles in hiding places",
        "teacher",
        {
            f"{place}, protocol {protocol}": (_saved(content, protocol), FOREIGN)
            for place, content in _PLACES.items()
            for protocol in (2, 4)
        }
        | {
            "behind another protocol's instructions": (
                _program(pickle.dumps([bytearray(b"x"), _EVIL], protocol=5)),
                FOREIGN,
            ),
            "in a storage's bytes": (_in_a_storage, "checkpoint.mismatch"),
            "in a zip within the zip": (_within_a_zip, "checkpoint.not_torch"),
            "as an instance": (_program(b"\x80\x02(S'touch x'\nios\nsystem\n."), FOREIGN),
            "by names put together on the way": (
                _program(b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94h\x00h\x01\x93\x8c\x01x\x85R."),
                FOREIGN,
            ),
            "by the extension registry": (_program(b"\x80\x02\x82\x01."), "checkpoint.pickle_protocol"),
            "as a persistent id": (_program(b"\x80\x02cos\nsystem\nX\x01\0\0\0x\x85RQ."), FOREIGN),
        },
    )
    yield from family(
        "bare pickles",
        "teacher",
        {
            f"protocol {protocol}": (
                _bare(protocol),
                FOREIGN if protocol >= 2 else "checkpoint.unknown_format",
            )
            for protocol in range(6)
        }
        | {"torch.save's old format": (_old_format, FOREIGN)},
    )
