"""The command `abdistill`: what scripts rely on (exit codes, JSON) and what people read."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import typer
from abdistill import Client, Update
from abdistill.cli import parsing, watching
from abdistill.cli.session import EXIT_CODES
from rich.console import Console

from store import logs
from store.leases import requeue

Run = Callable[..., subprocess.CompletedProcess[str]]
ALONE = [
    *("--student", "wide_resnet:depth=10,width=1", "--set", "transfer=null"),
    *(
        "--set",
        "finetune.cross_entropy_weight=1",
        "--set",
        "finetune.kd_weight=0",
        "--set",
        "finetune.epochs=2",
    ),
]


def test_from_upload_to_student(
    run_cli: Run, client: Client, backstage: Any, file: Path, tmp_path: Path
) -> None:
    teacher = json.loads(
        run_cli(
            *("teachers", "add", file, "--model", "wide_resnet:depth=16,width=2", "--image", "1x8x8"),
            *("--classes", "10", "--mean", "0.3", "--std", "0.4", "--no-wait", "--json"),
        ).stdout
    )
    backstage.accept()
    dataset = json.loads(run_cli("datasets", "add", file, "--name", "digits", "--no-wait", "--json").stdout)
    backstage.accept()
    assert client.teachers.get(teacher["id"]).model["num_classes"] == 10
    shown = run_cli("datasets", "list").stdout
    assert dataset["id"] in shown
    assert "10 classes" in shown
    shown = run_cli("datasets", "show", dataset["id"]).stdout
    assert "9x8 (100)" in shown
    assert "0 10, 1 10" in shown
    picture = tmp_path / "samples.png"
    assert run_cli("datasets", "samples", dataset["id"], "-o", picture).returncode == 0
    assert picture.read_bytes() == b"a picture"
    submitted = run_cli(
        "jobs",
        "submit",
        "--dataset",
        dataset["id"],
        *ALONE,
        "--label",
        "of=tests",
        "--format",
        "pt2",
        "--format",
        "onnx",
        "--require",
        "safetensors-fp16",
        "--json",
    )
    assert submitted.returncode == 0, submitted.stderr
    job = json.loads(submitted.stdout)
    assert job["labels"] == {"of": "tests"}
    assert client.jobs.get(job["id"]).recipe["finetune"]["epochs"] == 2
    assert client.jobs.get(job["id"]).outputs == {
        "formats": ["pt2", "onnx"],
        "required": ["safetensors-fp16"],
    }
    lease = backstage.claim()
    backstage.train(lease)
    student = os.urandom(100_000)
    backstage.succeed(lease, student)
    watched = run_cli("jobs", "watch", job["id"])
    assert watched.returncode == 0
    assert "Phase finetune" in watched.stderr
    assert "boundary similarity at relu: 50.0% -> 90.0%" in watched.stdout
    assert "onnx: student.onnx, 97.00% on val" in watched.stdout
    fetched = run_cli("download", job["id"], "-o", tmp_path)
    assert fetched.returncode == 0, fetched.stderr
    assert Path(fetched.stdout.strip()).read_bytes() == student
    fetched = run_cli("download", job["id"], "--format", "onnx", "-o", tmp_path)
    assert (fetched.returncode, fetched.stdout.strip()) == (0, str(tmp_path / "student.onnx"))
    assert (tmp_path / "student.onnx").read_bytes() == student


def test_a_job_is_paused_resumed_followed_run_again_and_deleted(
    run_cli: Run, client: Client, backstage: Any, file: Path
) -> None:
    job_id = backstage.submit(client, file)
    assert json.loads(run_cli("jobs", "pause", job_id, "--json").stdout)["state"] == "paused"
    assert json.loads(run_cli("jobs", "resume", job_id, "--json").stdout)["state"] == "queued"
    logs.append(backstage.db, lease := backstage.claim(), ["[bold]one\n", "two\n"])
    assert run_cli("logs", job_id).stdout == "[bold]one\ntwo\n"
    requeue(backstage.db, lease, "tests")
    client.jobs.cancel(job_id)
    assert run_cli("logs", job_id, "-f", "--tail", "1").stdout == "two\n"
    told = [json.loads(line) for line in run_cli("jobs", "follow", job_id).stdout.splitlines()]
    assert [one["type"] for one in told if "seq" in one][-1] == "job.cancelled"
    assert told[-1]["state"] == "cancelled"
    assert json.loads(run_cli("jobs", "retry", job_id, "--json").stdout)["retry_of"] == job_id
    assert run_cli("jobs", "delete", job_id).returncode == 0
    assert run_cli("jobs", "show", job_id).returncode == 3


def test_a_job_starts_from_a_preset(run_cli: Run, client: Client, backstage: Any, file: Path) -> None:
    presets = {preset["name"]: preset for preset in json.loads(run_cli("jobs", "presets", "--json").stdout)}
    assert "paper-cifar" in run_cli("jobs", "presets").stdout
    teacher = json.loads(
        run_cli(
            *("teachers", "add", file, "--model", "wide_resnet:depth=16,width=2", "--image", "1x8x8"),
            *("--classes", "10", "--mean", "0.3", "--std", "0.4", "--no-wait", "--json"),
        ).stdout
    )
    backstage.accept()
    dataset = json.loads(run_cli("datasets", "add", file, "--name", "digits", "--no-wait", "--json").stdout)
    backstage.accept()
    inputs = (
        "--teacher",
        teacher["id"],
        "--dataset",
        dataset["id"],
        "--student",
        "wide_resnet:depth=10,width=1",
    )
    words = ("jobs", "submit", *inputs, "--preset", "paper-cifar", "--set", "seed=7", "--json")
    job = json.loads(run_cli(*words).stdout)
    assert client.jobs.get(job["id"]).recipe == {**presets["paper-cifar"]["recipe"], "seed": 7}


def test_a_job_is_watched_from_the_queue_through_its_phases_to_its_end(
    client: Client, backstage: Any, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = backstage.submit(client, file)

    def updates() -> Iterator[Update]:
        watched = client.jobs.watch(job_id, poll_seconds=0.01)
        yield next(watched)
        lease = backstage.claim()
        backstage.train(lease)
        yield next(watched)
        backstage.succeed(lease, b"student")
        yield from watched

    screen = io.StringIO()
    monkeypatch.setattr(watching, "err", Console(file=screen, width=120))
    assert watching.show_updates(updates()).state == "succeeded"
    shown = screen.getvalue()
    for part in (
        "Phase finetune: 2 epochs",
        "The job succeeded.",
        "finetune",
        "100%",
        "loss 0.5",
        "top-1 90.00%",
    ):
        assert part in shown


def test_exit_code_1_a_job_that_failed_and_an_upload_that_is_unusable(
    run_cli: Run, client: Client, backstage: Any, file: Path
) -> None:
    job_id = backstage.submit(client, file)
    backstage.reject()
    failed = run_cli("jobs", "watch", job_id)
    assert failed.returncode == 1
    assert "hint: Give the width" in failed.stderr
    cancelled = backstage.submit(client, file)
    assert run_cli("jobs", "cancel", cancelled).returncode == 0
    assert run_cli("jobs", "watch", cancelled, "--json").returncode == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["jobs", "submit", "--dataset", "dst_1"], "--student"),
        (["teachers", "add", "x.pt", "--model", "wide_resnet:depth=16,width=2"], "--image CxHxW"),
        (["datasets", "add", "not-there.npz"], "not-there.npz cannot be read"),
        (["jobs", "submit", "--dataset", "d", "--student", "{", "--recipe", "r"], "no valid JSON"),
    ],
)
def test_exit_code_2_wrong_usage(run_cli: Run, words: list[str], said: str) -> None:
    refused = run_cli(*words)
    assert refused.returncode == 2
    assert said in refused.stderr


def test_exit_code_3_refused(run_cli: Run, client: Client, backstage: Any, file: Path) -> None:
    assert run_cli("jobs", "show", "job_none").returncode == 3
    assert run_cli("jobs", "list", ABDISTILL_API_KEY="abd_wrong").returncode == 3
    dataset = backstage.ready_dataset(client, file)
    refused = run_cli("jobs", "submit", "--dataset", dataset, "--student", "wide_resnet:depth=11,width=1")
    assert refused.returncode == 3
    assert "use 10 or 16" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_exit_code_4_unreachable(run_cli: Run) -> None:
    refused = run_cli("jobs", "list", ABDISTILL_URL="http://127.0.0.1:1")
    assert refused.returncode == 4
    assert "abdistill-server up" in refused.stderr


def test_exit_code_5_not_in_time(run_cli: Run, client: Client, backstage: Any, file: Path) -> None:
    job_id = backstage.submit(client, file)
    late = run_cli("jobs", "watch", job_id, "--timeout", "0.1")
    assert late.returncode == 5
    assert "it goes on" in late.stderr


def test_exit_code_6_damaged(
    run_cli: Run, client: Client, backstage: Any, file: Path, tmp_path: Path
) -> None:
    job_id = backstage.submit(client, file)
    backstage.succeed(backstage.claim(), b"student")
    (blob,) = (backstage.settings.data_dir / "blobs" / "jobs" / job_id).rglob("student.safetensors")
    blob.write_bytes(b"damaged")
    damaged = run_cli("download", job_id, "-o", tmp_path / "student.safetensors")
    assert damaged.returncode == 6
    assert not (tmp_path / "student.safetensors").exists()


def test_exit_code_130_interrupted(api_port: int, client: Client, backstage: Any, file: Path) -> None:
    job_id = backstage.submit(client, file)
    environment = dict(os.environ) | {"ABDISTILL_URL": client.base_url, "ABDISTILL_API_KEY": backstage.key}
    watching = subprocess.Popen(
        [sys.executable, "-m", "abdistill", "jobs", "watch", job_id],
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        # A suite that a shell runs in the background was told to ignore it, and would pass that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509 - no threads
    )
    with watching:
        assert watching.stderr is not None
        watching.stderr.readline()  # the first event: it is watching
        watching.send_signal(signal.SIGINT)
        watching.stderr.read()
        assert watching.wait(timeout=30) == 130
    assert client.jobs.get(job_id).state == "queued"


def test_the_exit_codes_are_in_the_help(run_cli: Run) -> None:
    shown = " ".join(run_cli("--help").stdout.split())
    assert all(
        part in shown for part in ("0 done", "1 the job failed", "3 the service refused", "130 interrupted")
    )
    assert EXIT_CODES.count("·") == 7


def test_specs_from_words() -> None:
    assert parsing.architecture("torchvision:name=resnet18") == {"arch": "torchvision", "name": "resnet18"}
    assert parsing.architecture('{"arch": "wide_resnet", "depth": 10}') == {
        "arch": "wide_resnet",
        "depth": 10,
    }
    image = {"channels": 3, "height": 32, "width": 16}
    assert parsing.model("wide_resnet:depth=16,width=2", "3x32x16", 10)["image"] == image
    with pytest.raises(typer.BadParameter, match="CHANNELSxHEIGHTxWIDTH"):
        parsing.model("wide_resnet:depth=16,width=2", "32x32", 10)


def test_settings_are_laid_over_a_recipe_file(tmp_path: Path) -> None:
    file = tmp_path / "recipe.json"
    file.write_text('{"seed": 1, "transfer": {"epochs": 10, "batch_size": 64}}')
    assert parsing.recipe(str(file), ["transfer.epochs=5", "method.margin=0.5", "finetune=null"]) == {
        "seed": 1,
        "transfer": {"epochs": 5, "batch_size": 64},
        "method": {"margin": 0.5},
        "finetune": None,
    }
    with pytest.raises(typer.BadParameter, match="key=value"):
        parsing.recipe(None, ["transfer.epochs"])
    with pytest.raises(typer.BadParameter, match="there is no such file"):
        parsing.recipe("not-there.json", [])


def test_a_teacher_is_measured(run_cli: Run, client: Client, backstage: Any, file: Path) -> None:
    model = ("--model", "wide_resnet:depth=16,width=2", "--image", "1x8x8", "--classes", "10")
    teacher = json.loads(run_cli("teachers", "add", file, *model, "--no-wait", "--json").stdout)["id"]
    backstage.accept()
    dataset = backstage.ready_dataset(client, file)
    with ThreadPoolExecutor(1) as threads:
        shown = threads.submit(run_cli, "teachers", "evaluate", teacher, "--dataset", dataset)
        backstage.measure()
    assert shown.result().returncode == 0, shown.result().stderr
    assert "top-1 97.00%" in shown.result().stdout
    assert "warning: dataset:test: It knows nothing." in shown.result().stdout


def test_an_address_is_fetched_by_the_service(run_cli: Run, backstage: Any) -> None:
    source = f"{backstage.settings.import_from}/digits.npz"
    added = json.loads(run_cli("datasets", "add", source, "--no-wait", "--json").stdout)
    assert (added["name"], added["state"], added["source"]) == ("digits.npz", "pending", source)
    refused = run_cli("datasets", "add", "file:///etc/passwd", "--no-wait")
    assert refused.returncode != 0
    assert "imports from" in refused.stderr
