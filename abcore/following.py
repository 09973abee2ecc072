"""A process that helps another to train: `python -m abcore.following WORKSPACE RANK SIZE`; see `abcore.team`."""

import faulthandler
import signal
import sys
from pathlib import Path

from abcore.distillation import train
from abcore.events import EventWriter, MicroBatch, Record
from abcore.memory import is_out_of_memory
from abcore.specs.refusals import Refusal
from abcore.specs.runs import DistillRun, ExitCode, TrainTeacherRun, read_run
from abcore.teacher_training import as_distillation
from abcore.team import follow


def main(arguments: list[str]) -> ExitCode:
    """Train with the leader to the end. What can be refused, the leader refuses too, and tells."""
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)
    workspace, rank, size = Path(arguments[0]), int(arguments[1]), int(arguments[2])
    run = read_run(workspace / "run.json")
    if isinstance(run, TrainTeacherRun):
        run = as_distillation(run)
    assert isinstance(run, DistillRun), "only training is done by several processes"
    try:
        with follow(rank, size, workspace) as team:
            train(run, workspace, _Silent(rank), lambda: False, team)
    except Refusal as refusal:
        print(f"process {rank}: refused: {refusal}", file=sys.stderr)
        return ExitCode.REFUSED
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        print(f"process {rank}: {error}", file=sys.stderr)
        return ExitCode.OUT_OF_MEMORY
    return ExitCode.DONE


class _Silent(EventWriter):
    """Keeps quiet: the leader tells the same, but for what happens to the memory of this process alone."""

    def __init__(self, rank: int) -> None:
        self._rank = rank

    def emit(self, record: Record) -> None:
        if isinstance(record, MicroBatch):
            print(f"process {self._rank}: {record.model_dump_json()}", file=sys.stderr)

    def close(self) -> None:
        pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
