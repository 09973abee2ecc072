"""Questions to torch, asked of a few `python -m abcore.describe` processes (decision 0004)."""

import asyncio
import json
import queue
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from pydantic import TypeAdapter

from abcore.specs.architectures import ModelSpec
from abcore.specs.recipes import Recipe
from abcore.specs.refusals import Problem, Refusal
from abcore.specs.reports import DistillationPlan, ModelDescription
from api.asked_process import AskedProcess, TorchUnavailable

NUM_PROCESSES = 2
MOST_OPEN_QUESTIONS = 32
_PROBLEM: TypeAdapter[Problem] = TypeAdapter(Problem)


class Describer:
    """A small pool: a second process starts only when the first is busy.

    An answer depends on nothing but its question, so those who ask the same at the same time share one answer: a burst
    of one request sent many times is one question. `describe` and `plan` belong to one event loop, and hold no thread
    while they wait.
    """

    def __init__(self) -> None:
        self._processes = [AskedProcess("abcore.describe") for _ in range(NUM_PROCESSES)]
        # Last in, first out: the warm one is taken before the one that would have to be started.
        self._free: queue.LifoQueue[AskedProcess] = queue.LifoQueue()
        for process in self._processes:
            self._free.put(process)
        self._threads = ThreadPoolExecutor(NUM_PROCESSES, thread_name_prefix="describer")
        self._open: dict[str, asyncio.Task[dict[str, Any]]] = {}

    def start(self) -> None:
        """Begin to start a process, which takes seconds, without waiting for it."""
        self._threads.submit(self._warm_up)

    def close(self) -> None:
        """End the processes; whoever waits for an answer is told that there is none."""
        for process in self._processes:
            process.close()
        self._threads.shutdown(cancel_futures=True)

    @property
    def pids(self) -> list[int]:
        """The processes that run."""
        return [pid for process in self._processes if (pid := process.pid) is not None]

    @property
    def ready(self) -> bool:
        """Whether some process is warm."""
        return any(process.ready for process in self._processes)

    async def describe(self, model: ModelSpec) -> ModelDescription:
        """What is this network?

        Raises:
            Refusal: it cannot be built.
            TorchUnavailable
        """
        answer = await self._ask({"op": "describe", "model": model.model_dump(mode="json")})
        return ModelDescription.model_validate(answer)

    async def plan(self, student: ModelSpec, teacher: ModelSpec, recipe: Recipe) -> DistillationPlan:
        """What would this distillation do?

        Raises:
            Refusal: it could not work.
            TorchUnavailable
        """
        parts = {"student": student, "teacher": teacher, "recipe": recipe}
        question = {name: part.model_dump(mode="json") for name, part in parts.items()}
        return DistillationPlan.model_validate(await self._ask({"op": "plan", **question}))

    async def _ask(self, question: dict[str, Any]) -> Any:
        line = json.dumps(question)
        task = self._open.get(line)
        if task is None:
            if len(self._open) >= MOST_OPEN_QUESTIONS:
                raise TorchUnavailable("Too many networks wait to be described; ask again in a moment.")
            task = self._open[line] = asyncio.create_task(self._answer(line))
        answer = await asyncio.shield(task)  # one who goes away must not take the answer from the others
        if "refused" in answer:
            problem = _PROBLEM.validate_python(answer["refused"])
            raise Refusal(problem.code, problem.message, **problem.model_dump(exclude={"code", "message"}))
        return answer["ok"]

    async def _answer(self, line: str) -> dict[str, Any]:
        try:
            answer = await asyncio.get_running_loop().run_in_executor(self._threads, self._exchange, line)
        finally:
            del self._open[line]
        if "error" in answer:
            raise RuntimeError(f"abcore.describe failed: {answer['error']}")
        return answer

    def _exchange(self, line: str) -> dict[str, Any]:
        process = self._free.get()
        try:
            return process.exchange(line)
        finally:
            self._free.put(process)

    def _warm_up(self) -> None:
        process = self._free.get()
        try:
            with suppress(TorchUnavailable):  # it has said so in the log; the first question tries again
                process.start()
        finally:
            self._free.put(process)
