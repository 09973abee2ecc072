"""Questions to torch, asked of `python -m abcore.describe` over a pipe (decision 0004)."""

import json
import logging
import subprocess
import sys
import threading
from typing import Any

from pydantic import TypeAdapter

from abcore.specs.architectures import ModelSpec
from abcore.specs.recipes import Recipe
from abcore.specs.refusals import Problem, Refusal
from abcore.specs.reports import DistillationPlan, ModelDescription

ANSWER_SECONDS = 30.0
START_SECONDS = 120.0
_log = logging.getLogger(__name__)
_PROBLEM: TypeAdapter[Problem] = TypeAdapter(Problem)


class DescriberUnavailable(Exception):
    """The process that answers questions about networks does not answer; ask again in a moment."""


class Describer:
    """One describing process, kept warm; asked by one thread at a time, started anew when it dies or takes too long."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._closed = False

    def start(self) -> None:
        """Begin to start the process, which takes seconds, without waiting for it."""
        threading.Thread(target=self._warm_up, name="describer", daemon=True).start()

    def close(self) -> None:
        """End the process."""
        self._closed = True
        self._drop()

    @property
    def ready(self) -> bool:
        """Whether an answer would come at once."""
        return self._process is not None and self._process.poll() is None

    def describe(self, model: ModelSpec) -> ModelDescription:
        """What is this network?

        Raises:
            Refusal: it cannot be built. DescriberUnavailable.
        """
        answer = self._ask({"op": "describe", "model": model.model_dump(mode="json")})
        return ModelDescription.model_validate(answer)

    def plan(self, student: ModelSpec, teacher: ModelSpec, recipe: Recipe) -> DistillationPlan:
        """What would this distillation do?

        Raises:
            Refusal: it could not work. DescriberUnavailable.
        """
        parts = {"student": student, "teacher": teacher, "recipe": recipe}
        question = {name: part.model_dump(mode="json") for name, part in parts.items()}
        return DistillationPlan.model_validate(self._ask({"op": "plan", **question}))

    def _ask(self, question: dict[str, Any]) -> Any:
        if not self._turn.acquire(timeout=ANSWER_SECONDS):
            raise DescriberUnavailable
        try:
            # A process that died since the last question is no reason to refuse this one.
            answer = self._exchange(question) or self._exchange(question)
        finally:
            self._turn.release()
        if answer is None:
            raise DescriberUnavailable
        if "refused" in answer:
            problem = _PROBLEM.validate_python(answer["refused"])
            fields = problem.model_dump(exclude={"code", "message"})
            raise Refusal(problem.code, problem.message, **fields)
        if "error" in answer:
            raise RuntimeError(f"abcore.describe failed: {answer['error']}")
        return answer["ok"]

    def _exchange(self, question: dict[str, Any]) -> dict[str, Any] | None:
        """One question, one answer; None where the process died over it or was too slow."""
        try:
            process = self._running()
            assert process.stdin is not None
            process.stdin.write(json.dumps(question) + "\n")
            process.stdin.flush()
            return self._read_line(process, ANSWER_SECONDS)
        except (OSError, ValueError) as error:
            _log.warning("the describer was lost: %s", error)
            self._drop()
            return None

    def _running(self) -> subprocess.Popen[str]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        if self._closed:
            raise BrokenPipeError("the service is stopping")
        process = subprocess.Popen(
            [sys.executable, "-m", "abcore.describe"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Ctrl-C in a terminal is for the API, which then closes the pipe.
            start_new_session=True,
        )
        try:
            self._read_line(process, START_SECONDS)
        except (OSError, ValueError):
            process.kill()
            process.wait()
            raise
        self._process = process
        return process

    def _read_line(self, process: subprocess.Popen[str], seconds: float) -> dict[str, Any]:
        assert process.stdout is not None
        timer = threading.Timer(seconds, process.kill)
        timer.start()
        try:
            line = process.stdout.readline()
        finally:
            timer.cancel()
        if not line:
            raise BrokenPipeError(f"it ended with code {process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _warm_up(self) -> None:
        with self._turn:
            try:
                self._running()
            except (OSError, ValueError) as error:
                _log.warning("the describer did not start: %s", error)

    def _drop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
