"""Students side by side: figures, Pareto fronts, curves by epoch, differences."""

from collections.abc import Callable
from typing import Any

import pytest

from abcore import events as told
from abcore.specs.architectures import ModelSpec
from abcore.specs.reports import Accuracy, DistillReport, ModelDescription, TapSimilarity
from api.comparisons import pareto_front
from store import leases, progress

Refusal = Callable[..., dict[str, Any]]
STUDENT = {"arch": "wide_resnet", "depth": 10, "width": 1}
ALONE = {"transfer": None, "finetune": {"epochs": 2, "cross_entropy_weight": 1.0, "kd_weight": 0.0}}


def accuracy(top1: float) -> Accuracy:
    return Accuracy(top1=top1, top5=1.0, loss=1 - top1, num_images=100)


def run(service: Any, top1: float, parameters: int, *, split: str = "test", size: int = 3) -> str:
    """The next job in the queue, to such an end; two epochs of three steps."""
    lease = service.claim()
    for step in range(1, 7):
        values = {"loss": 1 / step} | ({"eval/top1": top1 * step / 6} if step % 3 == 0 else {})
        epoch = (step - 1) // 3
        progress.record(
            service.db,
            lease,
            [told.Metrics(time=1.0, phase="finetune", epoch=epoch, step=step, values=values)],
        )
    model = ModelSpec.model_validate(
        {"architecture": STUDENT, "image": {"channels": 1, "height": 8, "width": 8}, "num_classes": 10}
    )
    student = ModelDescription(
        spec=model, num_parameters=parameters, num_macs=10 * parameters, size_bytes=4 * parameters, taps=()
    )
    report = DistillReport(
        student=student,
        teacher=student,
        student_accuracy={split: accuracy(top1)},
        teacher_accuracy={split: accuracy(0.99)},
        agreement={split: 0.5},
        boundary_similarity=(TapSimilarity(student="s", teacher="t", before=0.5, after=top1, final=None),),
        training_seconds=2.0,
        versions={},
    )
    file = service.file(lease, "student.safetensors", b"x" * size)
    leases.finish(service.db, lease, report, [file])
    return str(lease.job.id)


def test_a_front_is_of_those_that_nobody_beats() -> None:
    students = {
        "small": (0.8, 10),
        "large": (0.9, 100),
        "beaten": (0.8, 50),
        "twin": (0.9, 100),
        "new": (None, 1),
    }
    assert pareto_front(students) == ["small", "large", "twin"]


def test_students_are_put_side_by_side(either: Any) -> None:
    dataset = either.ready("dataset")
    ids = [
        either.submit(dataset=dataset, recipe=ALONE | {"seed": seed}, student=STUDENT | {"width": width})[
            "id"
        ]
        for seed, width in ((1, 1), (1, 2), (2, 2))
    ]
    run(either, 0.8, 100)
    run(either, 0.9, 200, size=30)
    waits = ids[2]
    answer = either.client.get("/v1/compare", params={"jobs": ",".join([*ids, ids[0]])})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert [job["id"] for job in found["jobs"]] == ids
    first, second, third = found["jobs"]
    assert (first["top1"], first["teacher_top1"], first["agreement"], first["split"]) == (
        0.8,
        0.99,
        0.5,
        "test",
    )
    assert (first["parameters"], first["macs"], first["bytes"]) == (100, 1000, 3)
    assert second["files"] == {"student.safetensors": 30}
    assert (third["state"], third["top1"], third["pareto"]) == ("queued", None, [])
    assert third["parameters"] > 0, "known from its plan"
    assert first["pareto"] == second["pareto"] == ["parameters", "macs", "bytes"]
    assert found["best"] == ids[1]
    assert {one["field"]: one["values"] for one in found["differences"]} == {
        "recipe.seed": {ids[0]: 1, ids[1]: 1, waits: 2},
        "student.width": {ids[0]: 1, ids[1]: 2, waits: 2},
    }
    (tap,) = found["similarity"]
    assert tap["teacher"] == "t"
    assert tap["values"][ids[0]] == {"before": 0.5, "after": 0.8, "final": None}
    curves = {curve["name"]: curve for curve in found["curves"]}
    assert curves["loss"]["epochs"] == [0, 1]
    assert curves["loss"]["values"] == {id_: [1 / 3, 1 / 6] for id_ in ids[:2]}, "the last of each epoch"
    assert curves["eval/top1"]["values"][ids[1]] == [0.45, 0.9]


def test_a_sweep_is_compared_and_its_best_named(either: Any) -> None:
    body = {
        "base": {"dataset": either.ready("dataset"), "student": STUDENT, "recipe": ALONE},
        "grid": {"recipe.seed": [1, 2, 3]},
    }
    sweep = either.client.post("/v1/sweeps", json=body).json()["id"]
    for top1, parameters in ((0.7, 100), (0.9, 300), (0.6, 300)):
        run(either, top1, parameters)
    shown = either.client.get(f"/v1/sweeps/{sweep}").json()
    by_top1 = {job["top1"]: job for job in shown["jobs"]}
    assert shown["best"] == by_top1[0.9]["id"]
    assert [by_top1[top1]["pareto"] != [] for top1 in (0.7, 0.9, 0.6)] == [True, True, False]
    compared = either.client.get("/v1/compare", params={"sweep": sweep}).json()
    assert compared["jobs"] == shown["jobs"]
    assert [one["field"] for one in compared["differences"]] == ["recipe.seed"]


def test_long_curves_keep_their_ends(service: Any) -> None:
    id_ = service.submit()["id"]
    lease = service.claim()
    for epoch in range(50):
        figures = told.Metrics(
            time=1.0, phase="finetune", epoch=epoch, step=epoch + 1, values={"loss": epoch / 2}
        )
        progress.record(service.db, lease, [figures])
    (curve,) = service.client.get("/v1/compare", params={"jobs": id_, "points": 5}).json()["curves"]
    assert curve["epochs"] == [0, 12, 24, 37, 49]
    assert curve["values"][id_] == [0.0, 6.0, 12.0, 18.5, 24.5]


def test_another_split_is_compared_where_it_was_measured(service: Any, refusal: Refusal) -> None:
    dataset = service.ready("dataset")
    ids = [service.submit(dataset=dataset)["id"] for _ in range(2)]
    run(service, 0.8, 100, split="val")
    run(service, 0.9, 100, split="test")
    found = service.client.get("/v1/compare", params={"jobs": ",".join(ids)}).json()["jobs"]
    assert [job["split"] for job in found] == ["val", "test"]
    found = service.client.get("/v1/compare", params={"jobs": ",".join(ids), "split": "test"}).json()["jobs"]
    assert [job["top1"] for job in found] == [None, 0.9]
    problem = refusal(service.client.get("/v1/compare", params={"jobs": ids[0], "split": "train"}), 422)
    assert (problem["where"], problem["value"], problem["allowed"]) == ("query.split", "train", ["val"])


@pytest.mark.parametrize(
    ("query", "where", "value", "allowed"),
    [
        ({}, "query", None, ["jobs", "sweep"]),
        ({"jobs": "job_x", "sweep": "swp_x"}, "query", "jobs and sweep", ["jobs", "sweep"]),
        ({"jobs": "job_none"}, "query.jobs", "job_none", []),
        ({"jobs": ""}, "query.jobs", "", []),
        ({"sweep": "swp_none"}, "query.sweep", "swp_none", []),
        ({"jobs": ",".join(f"job_{n}" for n in range(51))}, "query.jobs", 51, ["<= 50"]),
        ({"jobs": "job_x", "points": 1}, "query.points", "1", [">= 2"]),
        ({"jobs": "job_x", "metrics": "loss"}, "query.metrics", "loss", None),
    ],
)
def test_what_cannot_be_compared_is_refused(
    service: Any, refusal: Refusal, query: dict[str, Any], where: str, value: Any, allowed: list[str] | None
) -> None:
    problem = refusal(service.client.get("/v1/compare", params=query), 422)
    assert (problem["where"], problem["value"]) == (where, value)
    assert problem["hint"]
    if allowed is not None:
        assert problem["allowed"] == allowed
    else:
        assert {"jobs", "sweep", "metric"} <= set(problem["allowed"])


def test_a_figure_that_no_job_has_and_a_teachers_training_are_refused(service: Any, refusal: Refusal) -> None:
    id_ = service.submit()["id"]
    run(service, 0.8, 100)
    query = {"jobs": id_, "metric": "eval/top2"}
    problem = refusal(service.client.get("/v1/compare", params=query), 422)
    assert (problem["where"], problem["value"]) == ("query.metric", "eval/top2")
    assert problem["allowed"] == ["eval/top1", "loss"]
    found = service.client.get("/v1/compare", params=query | {"metric": "loss"}).json()
    assert [curve["name"] for curve in found["curves"]] == ["loss"]
    body = {"name": "t", "dataset": service.ready("dataset"), "architecture": STUDENT, "recipe": ALONE}
    job = service.client.post("/v1/teachers/train", json=body).json()["training_job_id"]
    problem = refusal(service.client.get("/v1/compare", params={"jobs": job}), 422)
    assert (problem["code"], problem["value"]) == ("compare.job", job)
