"""How a child is started: its program, its surroundings, its limits."""

import logging
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import abcore
import leash
from store.models import Json
from store.settings import Settings
from worker.confinement import files_of
from worker.forks import Forks
from worker.rooms import TrainingRoom
from worker.workspace import Workspace, Workspaces

CHILD_PROGRAM = ("-m", "abcore.run")
# -P: the workspace is the current folder, and what lies there must never be imported.
PYTHON = (sys.executable, "-P")
TRAINING = frozenset({"distill", "train_teacher", "evaluate_teacher"})
"""Tasks that read only what was verified, and compute for long."""
OPEN_FILES = 4096
# Address space, not memory: libraries of a CUDA build are mapped even if unused.
PYTHON_WITH_TORCH_BYTES = 8 * 2**30
LARGEST_TEACHER_BYTES = 5 * 2**30  # of 2^30 parameters in float32, and their buffers
HEADER_BYTES = 64 * 2**20
CPU_SECONDS = 600
CPU_SECONDS_PER_GIB = 600  # of an upload: JPEGs of 50 million pixels, decoded to be shrunk

DEVICES = Path("/dev")

# What a child needs of the worker's environment. All else stays out: database, broker, keys, tokens of the host.
_PASSED_ON = frozenset(
    {"PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_HOME"}
)

_log = logging.getLogger(__name__)


class Guardian:
    """Starts children on leashes, forked from a process that has imported what they need, where there is one."""

    def __init__(
        self,
        settings: Settings,
        workspaces: Workspaces,
        program: tuple[str, ...] = CHILD_PROGRAM,
        training_room: TrainingRoom | None = None,
    ) -> None:
        """`program` is given to Python, and gets the workspace's path as its last argument."""
        self._settings = settings
        self._program = program
        self._training_room = training_room or TrainingRoom()
        self._forks = Forks(
            program,
            workspaces,
            self._environment_of_forks,
            settings.grace_seconds,
            wanted=settings.warm_children,
        )

    def prepare(self) -> None:
        """Get ready to start children quickly."""
        self._forks.prepare()

    def close(self) -> None:
        """End what `prepare` began."""
        self._forks.close()

    def start(self, workspace: Workspace, run: Json, slot: int, memory_halvings: int = 0) -> leash.Leashed:
        """Start the child for what `run.json` holds; its output goes to the workspace's log.

        `memory_halvings` is how many earlier attempts ended for want of memory.

        Raises:
            OSError: it could not be started.
        """
        environment = self.environment(workspace, run["task"], slot, memory_halvings)
        limits, forked = self._limits(workspace, run), True
        if run["task"] in TRAINING and environment["ABDISTILL_DEVICE"] != "cpu" and _gpus():
            limits = self._training_room.with_gpu(limits, environment, workspace.root)
            forked = self._training_room.forks_see_gpu(self._forks, limits, environment, workspace)
        with workspace.log.open("ab") as log:
            child = self._spawn(workspace, environment, limits, log, forked=forked)
        for what in child.missing:
            _say_once(what)
        return child

    def _spawn(
        self,
        workspace: Workspace,
        environment: dict[str, str],
        limits: leash.Limits,
        log: BinaryIO,
        *,
        forked: bool,
    ) -> leash.Leashed:
        arguments = [str(workspace.root)]
        child = self._forks.spawn(arguments, workspace, environment, log, limits) if forked else None
        return child or leash.spawn(
            [*PYTHON, *self._program, *arguments],
            cwd=workspace.root,
            env=environment,
            stdout=log,
            stderr=log,
            limits=limits,
            grace_seconds=self._settings.grace_seconds,
        )

    def _limits(self, workspace: Workspace, run: Json) -> leash.Limits:
        """Limits of a child. One that reads an untrusted upload gets no more than an honest one could need."""
        limits = leash.Limits(
            core_bytes=0,  # a core dump would hold teachers and images
            open_files=OPEN_FILES,
            network=False,
            new_privileges=False,
            files=files_of(workspace, self._settings, self._program),
        )
        if run["task"] in TRAINING:
            return limits
        claimed = max((path.stat().st_size for path in workspace.inputs.iterdir()), default=0)
        decoded = int(run.get("max_bytes", 0))
        return replace(
            limits,
            address_space_bytes=PYTHON_WITH_TORCH_BYTES + 4 * claimed + 2 * decoded,
            file_bytes=max(LARGEST_TEACHER_BYTES, decoded) + HEADER_BYTES,
            cpu_seconds=CPU_SECONDS + CPU_SECONDS_PER_GIB * claimed // 2**30,
            processes=False,
        )

    def environment(self, workspace: Workspace, task: str, slot: int, memory_halvings: int) -> dict[str, str]:
        """Return all that the child gets to know about the world."""
        threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, _num_cpus() // self._settings.worker_slots))
        scrubbed = {name: value for name, value in os.environ.items() if name in _PASSED_ON}
        return scrubbed | self._devices(task, slot) | {
            "HOME": str(workspace.temporary),
            "TMPDIR": str(workspace.temporary),
            "PYTHONPATH": str(Path(abcore.__file__).parent.parent),
            "PYTHONUNBUFFERED": "1",  # a crash must not take the last lines of the log with it
            "PYTHONFAULTHANDLER": "1",
            "ABDISTILL_TEACHER_CACHE_BYTES": str(self._settings.teacher_cache_bytes),
            "ABDISTILL_MEMORY_HALVINGS": str(memory_halvings),
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            # Threads that spin while they wait fight with whatever else runs here: 60 s became 17 s on two busy cores.
            "OMP_WAIT_POLICY": "PASSIVE",
        }  # fmt: skip

    def _environment_of_forks(self, workspace: Workspace) -> dict[str, str]:
        """One thread and no GPU: threads and handles would be lost to the forked, which get theirs by their own."""
        nothing = {
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            # An import that asks whether there is a GPU is answered from the line above, and the driver stays asleep.
            "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
        }
        return self.environment(workspace, "verify_dataset", slot=0, memory_halvings=0) | nothing

    def _devices(self, task: str, slot: int) -> dict[str, str]:
        """Where the child computes: training on a GPU, or several, of its slot's own; all else without."""
        device = self._settings.device
        if task not in TRAINING:
            return {"ABDISTILL_DEVICE": "cpu", "CUDA_VISIBLE_DEVICES": ""}
        width, gpus = self._settings.slot_devices, _gpus()
        if gpus and device in ("auto", "cuda"):
            # More slots than GPUs share them.
            own = dict.fromkeys(gpus[(slot * width + nth) % len(gpus)] for nth in range(width))
            return {"ABDISTILL_DEVICE": device, "CUDA_VISIBLE_DEVICES": ",".join(own)}
        return {"ABDISTILL_DEVICE": device}


def _gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    if told is not None:
        return [gpu for gpu in told.split(",") if gpu]
    return [str(index) for index, _ in enumerate(DEVICES.glob("nvidia[0-9]*"))]


def _num_cpus() -> int:
    """CPUs that this process may use, where the system can say so, or else all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_said: set[str] = set()


def _say_once(what: str) -> None:
    if what not in _said:
        _said.add(what)
        _log.warning("children run without %s: this machine's kernel does not grant it", what)
