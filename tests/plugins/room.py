"""A room in which uploads are verified, with what every refusal promises checked."""

import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from plugins.forge import MODEL, Forge

from abcore.events import EventReader, EventWriter, Failed
from abcore.run import run_workspace
from abcore.specs.architectures import ModelSpec
from abcore.specs.refusals import Problem
from abcore.specs.runs import ExitCode, RunResult, VerifyDatasetRun, VerifyTeacherRun


class Room:
    """A workspace for one upload. Refusals are checked for what all of them promise."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.canary = path.parent / "canary"
        self.outputs = path / "outputs"
        (path / "inputs").mkdir(parents=True)

    def _run(self, upload: bytes, run: VerifyTeacherRun | VerifyDatasetRun) -> ExitCode:
        (self.path / "inputs" / "upload").write_bytes(upload)
        (self.path / "run.json").write_text(run.model_dump_json())
        events = EventWriter(self.path / "events.jsonl")
        try:
            return run_workspace(self.path, events, threading.Event())
        finally:
            events.close()

    def accept(self, upload: bytes, run: VerifyTeacherRun | VerifyDatasetRun) -> Any:
        """Verify an upload that is good; return its report."""
        code = self._run(upload, run)
        assert code is ExitCode.DONE, list(EventReader(self.path / "events.jsonl").read())
        result = RunResult.model_validate_json((self.outputs / "result.json").read_bytes())
        assert {file.name for file in result.files} | {"result.json"} == {
            p.name for p in self.outputs.iterdir()
        }
        return result.report

    def refuse(self, upload: bytes, run: VerifyTeacherRun | VerifyDatasetRun) -> Problem:
        """Verify an upload that is bad; return the problem, having checked that nothing ran and nothing stayed."""
        assert self._run(upload, run) is ExitCode.REFUSED
        (failed,) = EventReader(self.path / "events.jsonl").read()
        assert isinstance(failed, Failed)
        (problem,) = failed.problems
        assert problem.where, problem
        assert problem.hint, problem
        assert len(problem.model_dump_json()) < 20_000
        left = {str(path.relative_to(self.path)) for path in self.path.rglob("*")}
        assert left == {"run.json", "inputs", "inputs/upload", "events.jsonl", "outputs"}
        assert (self.path / "inputs" / "upload").read_bytes() == upload
        assert not self.canary.exists()
        return problem

    def accept_teacher(self, upload: bytes, model: ModelSpec = MODEL) -> Any:
        return self.accept(upload, VerifyTeacherRun(model=model))

    def refuse_teacher(self, upload: bytes, model: ModelSpec = MODEL) -> Problem:
        return self.refuse(upload, VerifyTeacherRun(model=model))

    def accept_dataset(self, upload: bytes, **options: Any) -> Any:
        return self.accept(upload, VerifyDatasetRun(filename="upload.bin", **options))

    def refuse_dataset(self, upload: bytes, **options: Any) -> Problem:
        return self.refuse(upload, VerifyDatasetRun(filename="upload.bin", **options))


@pytest.fixture
def model() -> ModelSpec:
    """The architecture of the teachers that are uploaded."""
    return MODEL


@pytest.fixture(scope="session")
def forge() -> Forge:
    """The maker of uploads."""
    return Forge()


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    """A workspace; the process's answer to SIGTERM, which a run changes, is put back."""
    before = signal.getsignal(signal.SIGTERM)
    yield Room(tmp_path / "workspace")
    signal.signal(signal.SIGTERM, before)
