"""The child process: `python -m abcore.run WORKSPACE` does what `run.json` says and tells how it went.

Settings from the environment: `ABDISTILL_DEVICE` (see `abcore.devices`), `ABDISTILL_TEACHER_CACHE_BYTES` (see
`abcore.caching`), `OMP_NUM_THREADS`. `get_ready` and `main` are what `leash.ForkServer` wants of a program.
"""

import argparse
import faulthandler
import math
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from abcore.atomic import write_atomically
from abcore.events import EventWriter, Failed, Finished, Interrupted
from abcore.progress import OutOfTime, Stopped
from abcore.specs.refusals import Refusal
from abcore.specs.runs import (
    HEADWAY,
    CombineTeachersRun,
    DistillRun,
    EvaluateTeacherRun,
    ExitCode,
    Run,
    RunResult,
    TrainTeacherRun,
    VerifyDatasetRun,
    VerifyTeacherRun,
    read_run,
)


def main(arguments: list[str] | None = None) -> ExitCode:
    """Run a workspace; see `abcore.specs.runs` for the folder and the exit codes."""
    parser = argparse.ArgumentParser(prog="python -m abcore.run", description="Do the work of a workspace.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("workspace", type=Path, nargs="?", help="folder with run.json and inputs/")
    what.add_argument(
        "--gpu", action="store_true", help="only say why torch can use no GPU; nothing if it can"
    )
    options = parser.parse_args(arguments)
    if options.gpu:
        from abcore.devices import why_no_gpu  # noqa: PLC0415  # imports torch

        sys.exit(why_no_gpu())
    workspace: Path = options.workspace
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)  # how a worker asks where the process hangs
    _take_up_threads()
    stop = threading.Event()
    # Set before torch is imported, which takes seconds: a stop that comes meanwhile must not kill the process.
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    events = EventWriter(workspace / "events.jsonl", log=sys.stdout)
    try:
        return run_workspace(workspace, events, stop)
    finally:
        events.close()


def get_ready() -> None:
    """Import what runs need, which takes seconds: what is forked from this process afterwards begins at once."""
    from abcore.warming import warm_up  # noqa: PLC0415  # imports torch

    warm_up()


def _take_up_threads() -> None:
    """Tell torch how many threads it may use, where it was imported before the environment said so."""
    threads = os.environ.get("OMP_NUM_THREADS")
    if threads is not None and "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(int(threads))


def run_workspace(workspace: Path, events: EventWriter, stop: threading.Event) -> ExitCode:
    """Do the work of a workspace until it is done or `stop` is set. Crashes come out as they are."""
    started = time.monotonic()
    outputs = workspace / "outputs"
    try:
        if not (
            outputs / "result.json"
        ).exists():  # an earlier attempt may have died between this file and its exit
            outputs.mkdir(exist_ok=True)
            result = _do(read_run(workspace / "run.json"), workspace, events, stop)
            write_atomically(outputs / "result.json", result.model_dump_json(indent=2).encode() + b"\n")
    except Stopped:
        events.emit(Interrupted())
        return ExitCode.INTERRUPTED
    except (MemoryError, RuntimeError) as error:
        from abcore.memory import is_out_of_memory  # noqa: PLC0415  # it imports torch

        if not is_out_of_memory(error):
            raise
        traceback.print_exception(error)
        return ExitCode.OUT_OF_MEMORY
    except Refusal as refusal:
        print(f"refused: {refusal}", file=sys.stderr)
        events.emit(Failed(problems=(refusal.problem,)))
        return ExitCode.REFUSED
    events.emit(Finished(seconds=time.monotonic() - started))
    return ExitCode.DONE


def _do(run: Run, workspace: Path, events: EventWriter, stop: threading.Event) -> RunResult:
    # Imported late: verification needs no training loop, and the other way round.
    match run:
        case DistillRun():
            from abcore.distillation import distill  # noqa: PLC0415  # see above

            return distill(run, workspace, events, _headway(workspace, stop))
        case TrainTeacherRun():
            from abcore.teacher_training import train_teacher  # noqa: PLC0415  # see above

            return train_teacher(run, workspace, events, _headway(workspace, stop))
        case CombineTeachersRun():
            from abcore.ensembling import combine_teachers  # noqa: PLC0415  # see above

            _stop_at_once(stop)
            return combine_teachers(run, workspace)
        case EvaluateTeacherRun():
            from abcore.teacher_evaluation import evaluate_teacher  # noqa: PLC0415  # see above

            return evaluate_teacher(run, workspace, _headway(workspace, stop))
        case VerifyTeacherRun():
            from abcore.ingest import verify_teacher  # noqa: PLC0415  # see above

            _stop_at_once(stop)
            return verify_teacher(run, workspace)
        case VerifyDatasetRun():
            from abcore.ingest import verify_dataset  # noqa: PLC0415  # see above

            _stop_at_once(stop)
            return verify_dataset(run, workspace)


def _headway(workspace: Path, stop: threading.Event) -> Callable[[], bool]:
    """Return what training asks at each step and each evaluated batch: whether to stop.

    Whoever asks gets further, and leaves a sign of it at most once a second. A thread of its own would leave signs
    where the work hangs, too.
    """
    sign = workspace / HEADWAY
    last = -math.inf

    def should_stop() -> bool:
        nonlocal last
        now = time.monotonic()
        if now - last >= 1.0:
            sign.touch()
            last = now
        return stop.is_set()

    return should_stop


def _stop_at_once(stop: threading.Event) -> None:
    """From here on SIGTERM ends the work wherever it is: a verification has no state worth keeping.

    So does SIGXCPU, which says that the limit of processor time has come.
    """

    def interrupt(*_: object) -> None:
        raise Stopped

    def run_out(*_: object) -> None:
        raise OutOfTime

    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGXCPU, run_out)
    if stop.is_set():
        raise Stopped


if __name__ == "__main__":
    sys.exit(main())
