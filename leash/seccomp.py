"""A process that starts no other one: a filter of system calls, which holds root too and cannot be taken off.

A limit of processes (RLIMIT_NPROC) counts all of a user's, those outside as well, and root's not at all.
"""

import ctypes
import errno
import os
from typing import NamedTuple

from leash import linux

_CLONE_THREAD = 0x10000
_X32 = 0x40000000  # the other numbering of an x86-64
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_NUMBER_AT, _MACHINE_AT, _FLAGS_AT = 0, 4, 16  # in what the kernel shows to the filter


class _Calls(NamedTuple):
    """A machine's number, and those of its calls that start processes."""

    machine: int
    clone: int
    clone3: int
    others: tuple[int, ...]


_MACHINES = {
    "x86_64": _Calls(0xC000003E, 56, 435, (57, 58)),
    "aarch64": _Calls(0xC00000B7, 220, 435, ()),
}


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("yes", ctypes.c_uint8),
        ("no", ctypes.c_uint8),
        ("value", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("instructions", ctypes.POINTER(_Instruction)))


def start_no_processes() -> None:
    """From here on this process, and what it becomes by exec, can start threads and no processes.

    Raises:
        OSError: the kernel filters no system calls, or this kind of machine is not known here.
    """
    calls = _MACHINES.get(os.uname().machine)
    if calls is None:
        raise OSError(errno.ENOSYS, f"system calls of {os.uname().machine} are not known")
    instructions = _filter(calls)
    program = _Program(len(instructions), (_Instruction * len(instructions))(*instructions))
    linux.filter_system_calls(ctypes.addressof(program))


def _filter(calls: _Calls) -> list[_Instruction]:
    """Classic BPF: `yes` and `no` say how many instructions are passed over."""
    refuse = _return(_ERROR | errno.EPERM)
    lines = [_load(_MACHINE_AT), _if_equal(calls.machine, 1, 0), refuse, _load(_NUMBER_AT)]
    if os.uname().machine == "x86_64":
        lines += [_Instruction(0x45, 0, 1, _X32), refuse]
    for number in calls.others:
        lines += [_if_equal(number, 0, 1), refuse]
    # The C library then takes clone, whose flags can be seen: those of clone3 lie in memory.
    lines += [_if_equal(calls.clone3, 0, 1), _return(_ERROR | errno.ENOSYS)]
    lines += [_if_equal(calls.clone, 0, 3), _load(_FLAGS_AT), _Instruction(0x45, 1, 0, _CLONE_THREAD), refuse]
    return [*lines, _return(_ALLOW)]


def _load(place: int) -> _Instruction:
    return _Instruction(0x20, 0, 0, place)


def _if_equal(value: int, yes: int, no: int) -> _Instruction:
    return _Instruction(0x15, yes, no, value)


def _return(value: int) -> _Instruction:
    return _Instruction(0x06, 0, 0, value)
