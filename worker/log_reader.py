"""A child's log as it grows: whole lines, within bounds."""

import os
import re

from worker.secrets import masked
from worker.workspace import Workspace

LINE_BYTES = 4 * 2**10
CHUNK_BYTES = 64 * 2**10
MOST_AT_ONCE_BYTES = 2**20
"""Of what is written faster than this between two looks, the beginning is left out."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
"""Whoever reads a log in a terminal must not be at the mercy of who wrote it."""


class LogReader:
    """Reads what was written since the last look."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._offset = 0

    def read(self, *, last: bool = False) -> list[str]:
        """Return the lines that are new, in texts of at most some CHUNK_BYTES.

        A line without its end waits for the next look, unless this is the `last` or the line is too long.
        """
        content, left_out = self._new_bytes()
        end = content.rfind(b"\n") + 1
        if last or (not end and len(content) > LINE_BYTES):
            end = len(content)
        self._offset += end
        written = masked(content[:end]).split(b"\n")
        lines = [_readable(line) for line in (written if written[-1] else written[:-1])]
        if left_out:
            lines.insert(0, f"[{left_out:,} bytes that were written too fast are left out]\n")
        return _in_chunks(lines)

    def _new_bytes(self) -> tuple[bytes, int]:
        """What follows the offset, which is moved to its beginning, and how many bytes were left out before it."""
        file = self._workspace.open_log()
        if file is None:
            return b"", 0
        with file:
            size = file.seek(0, os.SEEK_END)
            left_out = max(0, size - self._offset - MOST_AT_ONCE_BYTES)
            file.seek(self._offset + left_out)
            content = file.read(MOST_AT_ONCE_BYTES)
        if left_out:
            cut = content.find(b"\n") + 1
            content, left_out = content[cut:], left_out + cut
        self._offset += left_out
        return content, left_out


def _readable(line: bytes) -> str:
    # Of a bar that is drawn over itself the last state is enough.
    line = line.rstrip(b"\r").rpartition(b"\r")[2]
    more = len(line) - LINE_BYTES
    text = _CONTROL.sub("\ufffd", line[:LINE_BYTES].decode(errors="replace"))
    return f"{text} [{more:,} bytes more]\n" if more > 0 else f"{text}\n"


def _in_chunks(lines: list[str]) -> list[str]:
    chunks: list[str] = []
    size = CHUNK_BYTES
    for line in lines:
        size += len(line.encode())
        if size > CHUNK_BYTES:
            chunks.append("")
            size = len(line.encode())
        chunks[-1] += line
    return chunks
