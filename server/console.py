"""Output of several processes on one terminal: a line is whole, and says whose it is."""

import sys
import threading
import time
from collections import deque
from typing import IO, TextIO

import typer

COLOURS = ("cyan", "magenta", "yellow", "blue")
KEPT_LINES = 20
NAME_WIDTH = 7


class Console:
    """Writes prefixed lines to one stream. Thread-safe; a stream that has gone is no reason to stop."""

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self._stream = stream or sys.stdout
        self._lock = threading.Lock()
        self._colours: dict[str, str] = {}
        self._quiet = quiet

    def say(self, text: str) -> None:
        """A line of the supervisor's own, shown even when quiet."""
        self._write("server", text, colour="green")

    def relay(self, name: str, line: str) -> None:
        """A line of a process, unless quiet."""
        if not self._quiet:
            with self._lock:
                colour = self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)])
            self._write(name, line, colour=colour)

    def _write(self, name: str, text: str, *, colour: str) -> None:
        clock = time.strftime("%H:%M:%S")
        prefix = typer.style(f"{clock} {name:<{NAME_WIDTH}} |", fg=colour)
        with self._lock:
            try:
                typer.echo(f"{prefix} {text}", file=self._stream)
            except (BrokenPipeError, ValueError):  # the reader went away; the service goes on
                self._quiet = True


class OutputReader:
    """Passes a process's output on, line by line, and keeps the last lines for an error message."""

    def __init__(self, name: str, stream: IO[bytes], console: Console) -> None:
        self._last_lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._name = name
        self._stream = stream
        self._console = console
        self._thread = threading.Thread(target=self._read, name=f"output of {name}", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with self._stream:
            for raw in self._stream:
                line = raw.decode(errors="replace").rstrip()
                self._last_lines.append(line)
                self._console.relay(self._name, line)

    def lines(self) -> list[str]:
        """The last lines that it wrote."""
        return list(self._last_lines.copy())

    def finish(self) -> None:
        """Wait until everything that an ended process wrote has been passed on."""
        self._thread.join(timeout=5)
