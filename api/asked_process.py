"""A process that knows torch: started when it is needed, again when it has died, killed when it takes too long."""

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import leash

ANSWER_SECONDS = 30.0
START_SECONDS = 120.0
_log = logging.getLogger(__name__)


class TorchUnavailable(Exception):
    """The process that answers this does not answer; ask again in a moment."""

    code = "unavailable"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)


class _Died(Exception):
    """The process ended over a question, or before it."""


class AskedProcess:
    """One question at a time, each a line of JSON. The process ends with this one, on its leash.

    It is `python -m MODULE`. Its first line says that it is ready; after that it answers each line with one.
    """

    def __init__(
        self, module: str, environment: Mapping[str, str] | None = None, limits: leash.Limits | None = None
    ) -> None:
        self._module = module
        self._environment = environment
        self._limits = limits
        self._process: leash.Leashed | None = None
        self._warm = False
        self._closed = False
        self._turn = threading.Lock()
        self._starting = threading.Lock()  # so that nothing starts after `close` has looked

    @property
    def pid(self) -> int | None:
        """Of the process that runs, if one does."""
        process = self._process
        return process.command_pid if process is not None and process.wait(0) is None else None

    @property
    def ready(self) -> bool:
        """Whether an answer would come at once."""
        return self._warm and self.pid is not None

    def start(self) -> None:
        """Start the process if it does not run, and wait until it is warm.

        Raises:
            TorchUnavailable
        """
        with self._turn:
            try:
                self._running()
            except (_Died, OSError) as error:
                _log.warning("%s did not start: %s", self._module, error)
                raise TorchUnavailable from error

    def exchange(self, line: str) -> dict[str, Any]:
        """Return the answer to a question.

        A process that is found dead, or dies over the question, is replaced once: it may not have been the question's
        fault. One that takes too long is killed, and the question is not asked again.

        Raises:
            TorchUnavailable
        """
        with self._turn:
            for last_try in (False, True):
                try:
                    return self._ask(self._running(), line)
                except (_Died, OSError, ValueError) as error:
                    _log.warning("%s was lost: %s", self._module, error)
                    self._drop()
                    if last_try:
                        raise TorchUnavailable from error
        raise AssertionError("the last try returns or raises")

    def close(self) -> None:
        """End the process for good."""
        with self._starting:
            self._closed = True
            if self._process is not None:
                self._process.kill()
        with self._turn:  # a question that was being answered now sees the end
            self._drop()

    def _running(self) -> leash.Leashed:
        if self._process is not None and self._process.wait(0) is None:
            return self._process
        self._drop()
        with self._starting:
            if self._closed:
                raise _Died("the service is stopping")
            process = self._process = leash.spawn(
                [sys.executable, "-P", "-m", self._module],
                env=self._environment,
                limits=self._limits,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                grace_seconds=0.0,
            )
        line, _ = _read_line(process, START_SECONDS)
        if not line:
            self._drop()
            raise _Died("it ended, or took too long, before it was ready")
        self._warm = True
        return process

    def _ask(self, process: leash.Leashed, line: str) -> dict[str, Any]:
        assert process.stdin is not None
        process.stdin.write(line.encode() + b"\n")
        process.stdin.flush()
        answer, too_slow = _read_line(process, ANSWER_SECONDS)
        if too_slow:
            _log.warning("a question took %s longer than %.0f s: %.500s", self._module, ANSWER_SECONDS, line)
            self._drop()
            raise TorchUnavailable(f"It took longer than {ANSWER_SECONDS:.0f} s to answer this.")
        if not answer:
            raise _Died(f"it ended with code {process.wait()}")
        parsed: dict[str, Any] = json.loads(answer)
        return parsed

    def _drop(self) -> None:
        process, self._process, self._warm = self._process, None, False
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(OSError):  # half a question that nobody reads any more
                        pipe.close()


def _read_line(process: leash.Leashed, seconds: float) -> tuple[bytes, bool]:
    """Return one line, empty where the process ended, and whether it was killed for taking too long."""
    assert process.stdout is not None
    killed = threading.Event()

    def kill() -> None:
        killed.set()
        process.kill()

    timer = threading.Timer(seconds, kill)
    timer.daemon = True
    timer.start()
    try:
        line = process.stdout.readline()
    finally:
        timer.cancel()
    return line, not line and killed.is_set()
