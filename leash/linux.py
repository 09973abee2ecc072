"""What Linux offers for holding a process tree together. Elsewhere each function raises OSError or finds nothing."""

import ctypes
import errno
import fcntl
import os
import socket
import struct
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1

IS_LINUX = sys.platform.startswith("linux")


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send this signal to this process when its parent dies. Forgotten by a change of credentials."""
    _call("prctl", _PR_SET_PDEATHSIG, signal_number, 0, 0, 0)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies, instead of init."""
    _call("prctl", _PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def set_no_new_privileges() -> None:
    """No program that is started from here on gains rights by its set-user-ID bit or its file capabilities."""
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def leave_network() -> None:
    """Move to a network namespace, owned by a user namespace in which the user and group stay who they are.

    It has nothing but a loopback interface, through which processes on one leash can talk to each other.
    """
    user, group = os.geteuid(), os.getegid()
    _call("unshare", _CLONE_NEWUSER | _CLONE_NEWNET)
    for name, line in (
        ("setgroups", "deny"),  # the kernel wants it before an unprivileged gid_map
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    ):
        descriptor = os.open(f"/proc/self/{name}", os.O_WRONLY)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)
    _raise_loopback()


def _raise_loopback() -> None:
    request = struct.pack("16sH14x", b"lo", _IFF_UP)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request)


def filter_system_calls(program: int) -> None:
    """Have the kernel ask the BPF program at this address at each system call from here on."""
    _call("prctl", _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program, 0, 0)


def system_call(number: int, *arguments: int) -> int:
    """Make a system call that the C library has no function for; return what it returns."""
    return _call("syscall", number, *arguments)


def descendants(ancestor: int) -> list[int]:
    """The processes below `ancestor`, each parent before its children."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            parent = _parent_of(entry)
            if parent is not None:
                children.setdefault(parent, []).append(int(entry))
    found = [ancestor]
    for process in found:
        found.extend(children.get(process, ()))
    return found[1:]


def _parent_of(entry: str) -> int | None:
    try:
        with open(f"/proc/{entry}/stat", "rb") as file:
            stat = file.read()
    except OSError:  # it ended since the folder was listed
        return None
    # The name in parentheses may hold anything, spaces and parentheses too: fields count from the last one.
    return int(stat[stat.rindex(b")") + 1 :].split()[1])


def _call(function: str, *arguments: int) -> int:
    if not IS_LINUX:
        raise OSError(errno.ENOSYS, f"{function} is a Linux call")
    libc = ctypes.CDLL(None, use_errno=True)
    result: int = getattr(libc, function)(*(ctypes.c_ulong(value) for value in arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
