"""A child of the tests' own: `child.py BEHAVIOUR FOLDER WORKSPACE`, by the protocol of abcore.specs.runs.

It trains nothing, and does in a second what a real one does in hours: steps, checkpoints, resuming, stopping, and every
way to misbehave. FOLDER is where a test and its children meet: `starts` gets a line a start, `gate` lets a child go on.
"""

import faulthandler
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from abcore import events
from abcore.specs.architectures import ImageShape, ModelSpec, WideResNet
from abcore.specs.computations import Computation
from abcore.specs.refusals import Problem
from abcore.specs.reports import DistillReport, ModelDescription, OutputFile
from abcore.specs.runs import HEADWAY, ExitCode, RunResult

STEPS = 5
COMPUTATION = Computation(precision="fp32", memory_format="contiguous", why="asked for")
BEHAVIOUR, FOLDER, WORKSPACE = "", Path(), Path()
IMPORTED_BY = os.getpid()
STOP: list[bool] = []


def get_ready() -> None:
    """All is imported already."""


def main(arguments: list[str]) -> None:
    global BEHAVIOUR, FOLDER, WORKSPACE  # one process, one run
    BEHAVIOUR, FOLDER, WORKSPACE = arguments[0], Path(arguments[1]), Path(arguments[2])
    if arguments[2] == "--gpu":
        sys.exit(0 if BEHAVIOUR == "sees_gpu" else "CUDA is gone")
    signal.signal(signal.SIGTERM, lambda *_: STOP.append(True))
    with (FOLDER / "starts").open("a") as starts:
        print(WORKSPACE.name, file=starts)
    out = events.EventWriter(WORKSPACE / "events.jsonl")
    out.emit(events.RunStarted(device="cpu", versions={}, computation=COMPUTATION))
    print("a line of the log", flush=True)
    BEHAVIOURS[BEHAVIOUR](out)


def train(out: events.EventWriter) -> None:
    """Count to STEPS, a checkpoint each; resume; stop when asked; wait at the gate before the last step."""
    first = resume(out)
    for step in range(first, STEPS + 1):
        while step == STEPS and BEHAVIOUR != "quick" and not (FOLDER / "gate").exists() and not STOP:
            time.sleep(0.02)
        if STOP:
            out.emit(events.Interrupted())
            sys.exit(ExitCode.INTERRUPTED)
        out.emit(events.Metrics(phase="transfer", epoch=0, step=step, values={"loss": 1 / step}))
        out.emit(progress(step))
        save(out, step)
    finish(out)


def resume(out: events.EventWriter) -> int:
    saved = sorted((WORKSPACE / "checkpoints").iterdir())
    if not saved:
        return 1
    step = int(saved[-1].read_text())
    name = f"checkpoints/{saved[-1].name}"
    out.emit(events.Resumed(checkpoint=name, phase="transfer", epoch=0, step=step))
    return step + 1


def save(out: events.EventWriter, step: int) -> None:
    name = f"checkpoints/step-{step:04d}"
    content = str(step).encode()
    (WORKSPACE / name).write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    out.emit(
        events.CheckpointSaved(
            file=name,
            phase="transfer",
            epoch=0,
            step=step,
            global_step=step,
            size_bytes=len(content),
            sha256=sha256,
        )
    )


def progress(step: int) -> events.Progress:
    return events.Progress(
        phase="transfer", epoch=0, step=step, fraction=step / STEPS, images_per_second=1.0, eta_seconds=1.0
    )


def finish(out: events.EventWriter, sha256: str | None = None, name: str = "student.safetensors") -> None:
    content = b"weights"
    path = WORKSPACE / "outputs" / "student.safetensors"
    if not path.is_symlink():
        path.write_bytes(content)
    file = OutputFile(
        name=name,
        kind="student",
        media_type="application/octet-stream",
        size_bytes=len(content),
        sha256=sha256 or hashlib.sha256(content).hexdigest(),
    )
    result = RunResult(report=report(), files=(file,))
    (WORKSPACE / "outputs" / "result.json").write_text(result.model_dump_json())
    out.emit(events.Finished(seconds=1.0))


def report() -> DistillReport:
    model = ModelSpec(
        architecture=WideResNet(arch="wide_resnet", depth=10, width=1),
        image=ImageShape(channels=1, height=8, width=8),
        num_classes=10,
    )
    description = ModelDescription(spec=model, num_parameters=1, num_macs=1, size_bytes=4, taps=())
    return DistillReport(
        student=description,
        teacher=description,
        student_accuracy={},
        teacher_accuracy={},
        agreement={},
        boundary_similarity=(),
        training_seconds=1.0,
        versions={},
    )


def crash(out: events.EventWriter) -> None:
    save(out, 3)
    print("the last words", flush=True)
    sys.exit(3)


def refuse(out: events.EventWriter) -> None:
    out.emit(events.Failed(problems=(Problem(code="data.empty", message="there are no images"),)))
    sys.exit(ExitCode.REFUSED)


def stubborn(out: events.EventWriter) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sleeper = ["sleep", "600"]
    subprocess.Popen(sleeper)
    subprocess.Popen(sleeper, start_new_session=True)
    save(out, 1)
    time.sleep(600)


def tick(out: events.EventWriter) -> None:
    """Tell something all the time, until the gate opens."""
    while not (FOLDER / "gate").exists():
        out.emit(progress(1))
        time.sleep(0.02)
    finish(out)


def probe(out: events.EventWriter) -> None:
    """Tell what a child can see of the world."""
    interfaces = [
        line.split(":")[0].strip() for line in Path("/proc/self/net/dev").read_text().splitlines()[2:]
    ]
    details = {
        "process": os.getpid(),
        "imported_by": IMPORTED_BY,
        "environment": dict(os.environ),
        "interfaces": interfaces,
        "network": os.readlink("/proc/self/ns/net"),
        "folder": os.getcwd(),
        "path": sys.path,
        "inputs": {
            path.name: [path.read_text(), oct(path.stat().st_mode & 0o777)]
            for path in (WORKSPACE / "inputs").iterdir()
        },
        "run": json.loads((WORKSPACE / "run.json").read_text()),
    }
    out.emit(events.Note(level="info", code="probe", message="what I see", details=details))
    finish(out)


def link_out(out: events.EventWriter) -> None:
    (WORKSPACE / "outputs" / "student.safetensors").symlink_to(FOLDER / "secret")
    finish(out, sha256=hashlib.sha256((FOLDER / "secret").read_bytes()).hexdigest())


def link_log(out: events.EventWriter) -> None:
    (WORKSPACE / "log.txt").unlink()
    (WORKSPACE / "log.txt").symlink_to(FOLDER / "secret")
    finish(out)


def babble(out: events.EventWriter) -> None:
    save(out, 1)
    with (WORKSPACE / "events.jsonl").open("a") as file:
        file.write('{"type": "run.exploded"}\n')
    time.sleep(600)


def flood(out: events.EventWriter) -> None:
    for number in range(60_000):
        print(f"line {number:06d} {'x' * 30}")
    finish(out)


def hang(out: events.EventWriter) -> None:
    """Get nowhere, in a function that a stack dump would name."""
    faulthandler.register(signal.SIGUSR1)
    out.emit(events.Note(level="info", code="hang", message="from here on nothing"))
    where_it_hangs()


def where_it_hangs() -> None:
    time.sleep(600)


def breathe(out: events.EventWriter) -> None:
    """Tell nothing for long, but leave signs of getting further."""
    for _ in range(120):
        (WORKSPACE / HEADWAY).touch()
        time.sleep(0.05)
    finish(out)


def starve(out: events.EventWriter) -> None:
    """Be killed as the kernel kills for want of memory, and counted by it, until batches are halved."""
    if os.environ["ABDISTILL_MEMORY_HALVINGS"] == "0":
        (FOLDER / "vmstat").write_text("nr_free_pages 7\noom_kill 4\n")
        os.kill(os.getpid(), signal.SIGKILL)
    finish(out)


def gorge(out: events.EventWriter) -> None:
    if os.environ["ABDISTILL_MEMORY_HALVINGS"] == "0":
        sys.exit(ExitCode.OUT_OF_MEMORY)
    finish(out)


BEHAVIOURS = {
    "hang": hang,
    "breathe": breathe,
    "starve": starve,
    "gorge": gorge,
    "train": train,
    "quick": train,
    "crash": crash,
    "refuse": refuse,
    "stubborn": stubborn,
    "tick": tick,
    "probe": probe,
    "sees_gpu": probe,
    "sees_no_gpu": probe,
    "link_out": link_out,
    "link_log": link_log,
    "babble": babble,
    "flood": flood,
    "lie": lambda out: finish(out, sha256="0" * 64),
    "climb": lambda out: finish(out, name="../run.json"),
    "no_result": lambda out: None,
    "leave": lambda out: sys.exit(ExitCode.INTERRUPTED),
}

if __name__ == "__main__":
    main(sys.argv[1:])
