"""Sweeps, comparisons and clones: from Python and from the command."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import abdistill
import pytest
from abdistill import Client, Conflict, Invalid, NotFound, Timeout
from pydantic import BaseModel

from api.schemas import comparisons, jobs, sweeps

Run = Callable[..., CompletedProcess[str]]
STUDENT = {"arch": "wide_resnet", "depth": 10, "width": 1}
ALONE = {"transfer": None, "finetune": {"epochs": 2, "cross_entropy_weight": 1.0, "kd_weight": 0.0}}


@pytest.fixture
def base(client: Client, backstage: Any, file: Path) -> dict[str, Any]:
    """What all jobs of a sweep have."""
    return {"dataset": backstage.ready_dataset(client, file), "student": STUDENT, "recipe": ALONE}


@pytest.mark.parametrize(
    ("shown", "known"),
    [
        (jobs.Job, abdistill.Job),
        (jobs.Waiting, abdistill.Waiting),
        (jobs.Event, abdistill.Event),
        (jobs.Metric, abdistill.Metric),
        (jobs.Artifact, abdistill.Artifact),
        (sweeps.SweepWithJobs, abdistill.Sweep),
        (comparisons.Comparison, abdistill.Comparison),
        (comparisons.ComparedJob, abdistill.ComparedJob),
    ],
)
def test_the_client_knows_every_field_that_is_shown(shown: type[BaseModel], known: type[BaseModel]) -> None:
    assert set(shown.model_fields) - set(known.model_fields) <= {"object", "id"}


def test_a_sweep_is_queued_watched_compared_and_deleted(
    client: Client, backstage: Any, base: dict[str, Any]
) -> None:
    grid = {"student.width": [1, 2]}
    sweep = client.sweeps.create(base, grid=grid, name="widths", idempotency_key="sweep of tests")
    assert (sweep.num_jobs, sweep.counts["queued"], sweep.state) == (2, 2, "active")
    again = client.sweeps.create(base, grid=grid, name="widths", idempotency_key="sweep of tests")
    assert again.id == sweep.id
    assert {one.id for one in client.sweeps} >= {sweep.id}
    with pytest.raises(Timeout):
        client.sweeps.wait(sweep.id, timeout_seconds=0.0)
    first = backstage.claim()
    backstage.train(first)
    backstage.succeed(first, b"student")
    backstage.train(second := backstage.claim())
    backstage.succeed(second, b"larger student")
    ended = client.sweeps.wait(sweep.id)
    assert [one.overrides for one in ended.jobs] == [{"student.width": 1}, {"student.width": 2}]
    assert ended.jobs[0].top1 == 0.97
    assert "bytes" in ended.jobs[0].pareto
    assert client.jobs.get(first.job.id).sweep == sweep.id
    assert [job.id for job in client.jobs.list(sweep=sweep.id, order="oldest").data] == [
        one.id for one in ended.jobs
    ]
    compared = client.compare(sweep=sweep.id, metrics=["loss"])
    assert compared.best == ended.best
    (curve,) = compared.curves
    assert (curve.name, curve.epochs) == ("loss", (0, 1))
    assert curve.values == {first.job.id: (1.0, 0.5), second.job.id: (1.0, 0.5)}
    assert compared.differences[0].field == "student.width"
    client.sweeps.delete(sweep.id)
    with pytest.raises(NotFound):
        client.sweeps.get(sweep.id)


def test_a_sweep_that_cannot_work_queues_nothing_and_one_is_cancelled(
    client: Client, backstage: Any, base: dict[str, Any]
) -> None:
    with pytest.raises(Invalid) as caught:
        client.sweeps.create(base, points=[{"student.width": 1}, {"student.widht": 2}])
    assert "points.1.student.widht" in str(caught.value)
    assert client.jobs.list(state="queued").data == ()
    sweep = client.sweeps.create(base, points=[{"recipe.seed": 1}, {"recipe.seed": 2}])
    with pytest.raises(Conflict):
        client.sweeps.delete(sweep.id)
    assert client.sweeps.cancel(sweep.id).counts["cancelled"] == 2
    with pytest.raises(Conflict):
        client.sweeps.cancel(sweep.id)


def test_a_clone_is_another_job_with_changes(client: Client, backstage: Any, file: Path) -> None:
    job = client.jobs.get(backstage.submit(client, file, name="first", max_runtime_seconds=600))
    assert (job.max_runtime_seconds, job.waiting.code if job.waiting else None) == (600, "no_worker")
    clone = client.jobs.clone(job.id, student={"width": 2}, name="wider")
    assert (clone.clone_of, clone.name, clone.max_runtime_seconds) == (job.id, "wider", 600)
    assert clone.student["width"] == 2
    assert clone.student["depth"] == job.student["depth"]
    assert clone.recipe == job.recipe
    assert {one.id for one in client.jobs.list(created_from=clone.created_at).data} == {clone.id}


def test_what_a_job_told_is_chosen_and_thinned_out(client: Client, backstage: Any, file: Path) -> None:
    job_id = backstage.submit(client, file)
    lease = backstage.claim()
    backstage.train(lease)
    backstage.succeed(lease, b"student")
    assert [one.type for one in client.jobs.events(job_id, type=["job.queued", "job.succeeded"]).data] == [
        "job.queued",
        "job.succeeded",
    ]
    assert client.jobs.events(job_id, level="error").data == ()
    assert [one.step for one in client.jobs.metrics(job_id, name="loss", from_step=11, points=3).data] == [20]
    assert {one.name for one in client.jobs.metrics(job_id, name=["loss", "eval/top1"]).data} == {
        "loss",
        "eval/top1",
    }


def test_the_command_sweeps_and_compares(
    run_cli: Run, client: Client, backstage: Any, base: dict[str, Any], tmp_path: Path
) -> None:
    spec = tmp_path / "base.json"
    spec.write_text(json.dumps(base))
    grid = ("--grid", "student.width=1,2", "--grid", "recipe.seed=[7]")
    answer = run_cli("sweeps", "submit", "--base", spec, *grid, "--name", "widths", "--json")
    sweep = json.loads(answer.stdout)
    assert sweep["grid"] == {"student.width": [1, 2], "recipe.seed": [7]}
    for _ in range(2):
        backstage.train(lease := backstage.claim())
        backstage.succeed(lease, b"student")
    shown = run_cli("sweeps", "wait", sweep["id"], COLUMNS="200").stdout
    assert "2 succeeded" in shown
    assert "student.width=2, recipe.seed=7" in shown
    assert "97.00%" in shown
    ids = [one.id for one in client.sweeps.get(sweep["id"]).jobs]
    compared = run_cli("compare", *ids, COLUMNS="200").stdout
    assert "parameters, macs, bytes" in compared
    assert [line.split() for line in compared.splitlines()][-1] == ["student.width", "1", "2"]
    assert json.loads(run_cli("compare", "--sweep", sweep["id"], "--json").stdout)["best"] in ids
    assert sweep["id"] in run_cli("sweeps", "list", COLUMNS="200").stdout
    refused = run_cli("sweeps", "submit", "--base", spec, "--point", '{"student.widht": 1}')
    assert refused.returncode == 3
    assert "points.0.student.widht" in refused.stderr


def test_the_command_clones_lists_and_tells(run_cli: Run, client: Client, backstage: Any, file: Path) -> None:
    job_id = backstage.submit(client, file, labels={"of": "this test"})
    backstage.train(lease := backstage.claim())
    backstage.succeed(lease, b"student")
    clone = json.loads(run_cli("jobs", "clone", job_id, "--set", "recipe.finetune.epochs=3", "--json").stdout)
    assert (clone["clone_of"], clone["recipe"]["finetune"]["epochs"]) == (job_id, 3)
    listed = run_cli("jobs", "list", "--label", "of=this test", "--order", "priority", "--json")
    assert {one["id"] for one in json.loads(listed.stdout)} == {job_id, clone["id"]}
    ended = run_cli("jobs", "list", "--label", "of=this test", "--state", "succeeded", "--json")
    assert [one["id"] for one in json.loads(ended.stdout)] == [job_id]
    assert "no worker" in run_cli("jobs", "show", clone["id"], COLUMNS="300").stdout.lower()
    events = run_cli("jobs", "events", job_id, "--type", "job.succeeded").stdout
    assert events.split()[3:] == ["job.succeeded", "The", "job", "succeeded."]
    figures = run_cli("jobs", "metrics", job_id, "--name", "eval/top1").stdout.splitlines()
    assert figures[-1].split() == ["finetune", "eval/top1", "1", "20", "0.9"]
