"""A pickle as the program that it is, read instruction by instruction and never executed."""

import pickletools
from collections.abc import Container, Iterator
from typing import IO, Any

from abcore.specs.refusals import Refusal

MOST_SHARING = 10
"""How much a pickle may repeat by reference, in values for each of its bytes."""

_PROTOCOL = 2

# What torch's own restricted unpickler understands. Missing on purpose: what claims a buffer before there are bytes for
# it, and what fetches objects by names that are computed on the way.
# fmt: off  # one line a kind of thing
_INSTRUCTIONS = frozenset(
    {
        "PROTO",
        "STOP",
        "MARK",
        "GLOBAL",
        "REDUCE",
        "BUILD",
        "NEWOBJ",
        "BINPERSID",
        "EMPTY_DICT",
        "EMPTY_LIST",
        "EMPTY_SET",
        "EMPTY_TUPLE",
        "TUPLE",
        "TUPLE1",
        "TUPLE2",
        "TUPLE3",
        "APPEND",
        "APPENDS",
        "SETITEM",
        "SETITEMS",
        "NONE",
        "NEWTRUE",
        "NEWFALSE",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG1",
        "BINFLOAT",
        "BINUNICODE",
        "SHORT_BINSTRING",
        "BINGET",
        "LONG_BINGET",
        "BINPUT",
        "LONG_BINPUT",
    }
)
# fmt: on
_STRINGS = frozenset(("BINUNICODE", "SHORT_BINUNICODE", "UNICODE", "SHORT_BINSTRING", "BINSTRING", "STRING"))
_GETS = frozenset(("GET", "BINGET", "LONG_BINGET"))
_PUTS = frozenset(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"))
_NEST = frozenset(("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "REDUCE", "NEWOBJ"))

Instruction = tuple[str, Any, pickletools.OpcodeInfo]


def refuse_foreign_names(stream: IO[bytes], allowed: Container[str]) -> Iterator[Instruction]:
    """Go through one pickle; whatever it would import must be among `allowed`.

    Raises:
        Refusal: `checkpoint.foreign_object`, with the full name.
        ValueError: this is no pickle.
    """
    memo: dict[Any, str] = {}
    num_memoized = 0
    strings = ["?", "?"]
    last = "?"
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name in _STRINGS or opcode.name in _GETS:
            last = str(argument) if opcode.name in _STRINGS else memo.get(argument, "?")
            strings = [strings[1], last]
        elif opcode.name in _PUTS:
            if last != "?":
                memo[num_memoized if argument is None else argument] = last
            num_memoized += 1
        else:
            last = "?"
        named = None
        if opcode.name in ("GLOBAL", "INST"):
            named = str(argument).replace(" ", ".")
        elif opcode.name == "STACK_GLOBAL":
            named = ".".join(strings)
        if named is not None and named not in allowed:
            raise foreign_object(named)
        yield opcode.name, argument, opcode


def refuse_bombs(program: Iterator[Instruction], num_bytes: int) -> None:
    """Refuse a program that asks for more memory or time than its size explains.

    Two things are cheap to write and dear to run. A memo index makes Python's unpickler allocate a table up to it. A
    tuple that holds another one twice, which holds another one twice, and so on, is hashed in full when it becomes a
    key: 60 levels take longer than the age of the universe. So values are weighed as they are stacked up: what is
    fetched again and again may not weigh more than `MOST_SHARING` times the program.

    Raises:
        Refusal: `checkpoint.bomb`, or `checkpoint.pickle_protocol` for a program that torch does not read.
        LookupError: the program takes from its stack or memo what is not there.
    """
    stack: list[int] = []
    marks: list[int] = []
    memo: dict[int, int] = {}
    shared = 0
    for name, argument, opcode in program:
        if name not in _INSTRUCTIONS or (name == "PROTO" and argument != _PROTOCOL):
            for _ in program:
                pass  # a foreign name further on is the better reason to refuse
            raise _other_protocol(f"protocol {argument}" if name == "PROTO" else f"the instruction {name}")
        if name == "MARK":
            marks.append(len(stack))
            continue
        if name in _PUTS:
            if argument > num_bytes:
                raise _bomb(f"memo entry {argument:,} in a program of {num_bytes:,} bytes")
            memo[argument] = stack[-1]
            continue
        taken = _take(stack, marks, opcode)
        weight = 1 + sum(taken) if name in _NEST else 1
        if name in _GETS:
            weight = memo[argument]
            shared += weight
            if shared > MOST_SHARING * num_bytes:
                raise _bomb("values that contain one another over and over")
        stack.extend([weight] * len(opcode.stack_after))


def _take(stack: list[int], marks: list[int], opcode: pickletools.OpcodeInfo) -> list[int]:
    before = opcode.stack_before
    if pickletools.markobject in before:
        start = marks.pop() - before.index(pickletools.markobject)
    else:
        start = len(stack) - len(before)
    if start < 0:
        raise LookupError(f"{opcode.name} finds too little on the stack")
    taken = stack[start:]
    del stack[start:]
    return taken


def foreign_object(what: str) -> Refusal:
    """Say that a checkpoint names something other than tensors and plain values."""
    return Refusal(
        "checkpoint.foreign_object",
        f"the checkpoint contains {what[:200]}, which has no place among tensors and plain values; "
        "nothing of it was run",
        where="checkpoint",
        value=what[:200],
        hint="Send only the state dict: torch.save(model.state_dict(), 'teacher.pt'), or safetensors.",
    )


def _other_protocol(what: str) -> Refusal:
    return Refusal(
        "checkpoint.pickle_protocol",
        f"the checkpoint's pickle uses {what}; it was not opened, because torch reads only protocol 2 safely",
        where="checkpoint",
        value=what,
        hint="Save it again without `pickle_protocol`: torch.save(model.state_dict(), 'teacher.pt').",
    )


def _bomb(why: str) -> Refusal:
    return Refusal(
        "checkpoint.bomb",
        f"the checkpoint's pickle asks for far more than its size explains: {why}; nothing of it was run",
        where="checkpoint",
        hint="No library writes such a file. Send the state dict: torch.save(model.state_dict(), 'teacher.pt').",
    )
