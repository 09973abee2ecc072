"""A file system of which a process sees only some places, for good: Landlock, in Linux since 5.13.

It needs no rights and no mounts, holds root too, and goes on to all that the process starts. It also keeps the process
from reading what others keep in memory or environment (/proc/PID), and, since Linux 6.12, from sending them signals.
"""

import ctypes
import os
import stat
from collections.abc import Iterable

from leash import linux

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on all machines
_VERSION_FLAG = 1
_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
_LAST_RIGHT = {1: 13, 2: 14}
"""How many rights the kernel knows, by its version of Landlock; what came later is 15 for us."""
_SCOPES_VERSION = 6
_SCOPES = 0b11  # abstract sockets and signals of processes outside


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class _Rule(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def confine(readable: Iterable[str], writable: Iterable[str], listable: Iterable[str]) -> None:
    """Leave this process only these files, and the folders among them with all that is below.

    What is not there is passed over. `listable` folders, and those below them, only tell their names.

    Raises:
        OSError: the kernel has no Landlock, or it is switched off.
    """
    version = linux.system_call(_CREATE_RULESET, 0, 0, _VERSION_FLAG)
    handled = (1 << _LAST_RIGHT.get(version, 15)) - 1
    scopes = _SCOPES if version >= _SCOPES_VERSION else 0
    wanted = _Ruleset(handled, 0, scopes)
    size = ctypes.sizeof(wanted) if scopes else ctypes.sizeof(ctypes.c_uint64)
    ruleset = linux.system_call(_CREATE_RULESET, ctypes.addressof(wanted), size, 0)
    try:
        for paths, rights in ((readable, _READ), (writable, handled), (listable, _READ_DIR)):
            for path in paths:
                _allow(ruleset, path, rights & handled)
        linux.system_call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            rights &= _OF_FILES
        rule = _Rule(rights, place)
        linux.system_call(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.addressof(rule), 0)
    finally:
        os.close(place)
