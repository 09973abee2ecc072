"""The child process as the worker starts it: exit codes, signals, and the same student whatever happened to it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

import leash
from abcore.events import EventReader
from abcore.specs.recipes import Recipe
from abcore.specs.runs import ExitCode, RunResult, VerifyDatasetRun

MakeBench = Callable[..., Any]


@pytest.fixture
def start() -> Iterator[Callable[[Path], "subprocess.Popen[bytes]"]]:
    """Start `python -m abcore.run` on a workspace; whatever is left at the end is killed."""
    children: list[subprocess.Popen[bytes]] = []

    def start_child(workspace: Path) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "abcore.run", str(workspace)]
        with (workspace / "log.txt").open("ab") as log:
            child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
        children.append(child)
        return child

    yield start_child
    for child in children:
        child.kill()
        child.communicate()


def wait_for(workspace: Path, child: "subprocess.Popen[bytes]", kind: str, count: int = 1) -> None:
    """Wait until the child has told `count` records of a type."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        records = list(EventReader(workspace / "events.jsonl").read())
        if sum(record.type == kind for record in records) >= count:
            return
        assert child.poll() is None, (workspace / "log.txt").read_text()
        time.sleep(0.005)
    raise AssertionError(f"no {kind} within a minute")


def student_sha256(workspace: Path) -> str:
    result = RunResult.model_validate_json((workspace / "outputs" / "result.json").read_bytes())
    return result.files[0].sha256


def test_a_run_that_is_killed_and_stopped_gives_the_same_student(
    make_bench: MakeBench, start: Callable[[Path], Any], recipe: Recipe
) -> None:
    phases = {"transfer": {"epochs": 20, "batch_size": 40}, "finetune": {"epochs": 20, "batch_size": 40}}
    recipe = Recipe.model_validate({**recipe.model_dump(), **phases})
    expected = make_bench("expected", recipe=recipe).distill().files[0].sha256
    bench = make_bench("disturbed", recipe=recipe, checkpoint_seconds=1e-6)
    workspace = bench.workspace

    child = start(workspace)
    wait_for(workspace, child, "checkpoint.saved", 3)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL

    child = start(workspace)
    wait_for(workspace, child, "run.resumed")
    child.send_signal(signal.SIGTERM)
    assert child.wait(60) == ExitCode.INTERRUPTED
    assert bench.events()[-1].type == "run.interrupted"

    assert start(workspace).wait(60) == ExitCode.DONE
    assert bench.events()[-1].type == "run.finished"
    assert len(bench.events("run.resumed")) == 2
    assert student_sha256(workspace) == expected

    assert start(workspace).wait(60) == ExitCode.DONE  # nothing is left to do, and nothing is done twice
    assert len(bench.events("run.started")) == 3


WAYS = ("kill", "stop", "kill and move", "stop and move")
"""How a run is interrupted. Moved: only its newest checkpoint reaches the next attempt, as on another machine."""
NUM_POINTS = 20


@pytest.mark.slow
def test_interrupted_at_twenty_random_points_the_student_is_the_same(
    make_bench: MakeBench, start: Callable[[Path], Any], recipe: Recipe
) -> None:
    """Both phases, the teacher's answers kept in files, checkpoints at steps that the clock chooses."""
    changes = {
        "transfer": {"epochs": 12, "batch_size": 40},
        "finetune": {"epochs": 12, "batch_size": 40, "cross_entropy_weight": 0.5},
        "augmentation": {"crop_padding": 1, "horizontal_flip": False, "views": 2},
        "teacher_source": "cached",
    }
    options = {
        "recipe": Recipe.model_validate({**recipe.model_dump(), **changes}),
        "checkpoint_seconds": 0.02,
    }
    alone = make_bench("alone", **options)
    assert start(alone.workspace).wait() == ExitCode.DONE
    expected, num_records = student_sha256(alone.workspace), len(alone.events())

    same = []
    for point in range(NUM_POINTS):
        bench, random, way = make_bench(f"point-{point}", **options), Random(point), WAYS[point % len(WAYS)]
        child = start(bench.workspace)
        wait_for_records(bench.workspace, child, random.randrange(num_records))
        time.sleep(random.uniform(0, 0.02))  # anywhere within a step
        child.send_signal(signal.SIGKILL if way.startswith("kill") else signal.SIGTERM)
        child.wait()
        workspace = bench.workspace
        if way.endswith("move"):
            workspace = make_bench(f"elsewhere-{point}", **options).workspace
            for newest in sorted((bench.workspace / "checkpoints").glob("*.ckpt"))[-1:]:
                (workspace / "checkpoints").mkdir()
                shutil.copy(newest, workspace / "checkpoints")
        assert start(workspace).wait() == ExitCode.DONE
        records = list(EventReader(workspace / "events.jsonl").read())
        resumed = [record.step for record in records if record.type == "run.resumed"]
        print(f"point {point:2}: {way:<13} went on from {resumed}")
        same.append(student_sha256(workspace) == expected)
    print(f"{sum(same)} of {NUM_POINTS} students have the sha256 of the uninterrupted run")
    assert sum(same) == NUM_POINTS


def wait_for_records(workspace: Path, child: "subprocess.Popen[bytes]", number: int) -> None:
    """Wait until the child has told so many records, or has ended."""
    reader, told = EventReader(workspace / "events.jsonl"), 0
    while child.poll() is None and told < number:
        told += len(list(reader.read()))
        time.sleep(0.002)


def test_a_stop_during_start_up_is_a_stop(make_bench: MakeBench, start: Callable[[Path], Any]) -> None:
    bench = make_bench()
    child = start(bench.workspace)
    deadline = time.monotonic() + 60
    while not (bench.workspace / "events.jsonl").exists():  # made once the handler is in place, before torch
        assert time.monotonic() < deadline
        time.sleep(0.001)
    child.send_signal(signal.SIGTERM)
    assert child.wait(60) == ExitCode.INTERRUPTED
    assert not (bench.workspace / "outputs" / "result.json").exists()


def test_a_refusal_is_told_and_has_its_own_code(make_bench: MakeBench, start: Callable[[Path], Any]) -> None:
    bench = make_bench(teacher=None)
    assert start(bench.workspace).wait(60) == ExitCode.REFUSED
    (failed,) = bench.events("run.failed")
    assert failed.problems[0].code == "recipe.needs_teacher"


def test_a_run_that_nobody_understands_is_refused(
    make_bench: MakeBench, start: Callable[[Path], Any]
) -> None:
    bench = make_bench()
    run = json.loads((bench.workspace / "run.json").read_text())
    run["recipe"]["temprature"] = 3
    (bench.workspace / "run.json").write_text(json.dumps(run))
    assert start(bench.workspace).wait(60) == ExitCode.REFUSED
    (failed,) = bench.events("run.failed")
    assert failed.problems[0].code == "run.invalid"
    assert "temprature" in failed.problems[0].where


def test_a_verification_stops_wherever_it_is(tmp_path: Path, start: Callable[[Path], Any]) -> None:
    workspace = tmp_path / "verification"
    (workspace / "inputs").mkdir(parents=True)
    (workspace / "run.json").write_text(VerifyDatasetRun(filename="digits.npz").model_dump_json())
    os.mkfifo(workspace / "inputs" / "upload")  # an upload that never ends
    child = start(workspace)
    writer = os.open(workspace / "inputs" / "upload", os.O_WRONLY)  # returns when the child has begun to read
    child.send_signal(signal.SIGTERM)
    assert child.wait(60) == ExitCode.INTERRUPTED
    os.close(writer)


def test_anything_else_is_a_crash(make_bench: MakeBench, start: Callable[[Path], Any]) -> None:
    bench = make_bench()
    (bench.workspace / "inputs" / "dataset.safetensors").unlink()
    assert start(bench.workspace).wait(60) == 1
    assert "dataset.safetensors" in (bench.workspace / "log.txt").read_text()
    assert not bench.events("run.failed")


def test_a_forked_run_gives_the_student_of_one_that_was_started(make_bench: MakeBench) -> None:
    """Two threads, where the process that forks has one: what it imported must learn of the run's own surroundings."""
    bench = make_bench("forked")
    surroundings = {
        name: value for name, value in os.environ.items() if name != "ABDISTILL_MEMORY_HALVINGS"
    } | {"OMP_NUM_THREADS": "1"}
    with (bench.workspace / "log.txt").open("wb") as log:
        server = leash.ForkServer(("-m", "abcore.run"), cwd=bench.workspace, env=surroundings, output=log)
        try:
            deadline = time.monotonic() + 60
            while not server.ready:
                assert server.lives, (bench.workspace / "log.txt").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            threads = [path.read_text() for path in Path(f"/proc/{server.pid}/task").glob("*/comm")]
            # Arrow's allocator has one that knows of forks. All others would be lost to the forked.
            assert len([name for name in threads if name != "jemalloc_bg_thd\n"]) == 1, threads
            child = server.spawn(
                [str(bench.workspace)],
                cwd=bench.workspace,
                env=surroundings | {"OMP_NUM_THREADS": "2"},
                output=log,
                limits=leash.Limits(),
                grace_seconds=1.0,
            )
            assert child.wait(120) == ExitCode.DONE, (bench.workspace / "log.txt").read_text()
        finally:
            server.close()
    (started,) = bench.events("run.started")
    assert "(2 threads)" in started.device
    usual = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        direct = make_bench("direct").distill()
    finally:
        torch.set_num_threads(usual)
    assert student_sha256(bench.workspace) == direct.files[0].sha256
