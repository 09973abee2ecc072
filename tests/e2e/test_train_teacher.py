"""Without a checkpoint: the service trains a teacher, makes an ensemble, and students learn from both."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from abdistill import Client
from abdistill.errors import Conflict, Invalid
from sklearn.datasets import load_digits

from demo.service import running_service

ARCHITECTURE = {"arch": "wide_resnet", "depth": 10, "width": 1}
SHORT = {"epochs": 5, "batch_size": 32}
SMALL = {"crop_padding": 1, "horizontal_flip": False}


@pytest.mark.slow
def test_from_a_dataset_alone_to_a_student(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABDISTILL_SLOT_DEVICES", "2")
    digits = load_digits()
    buffer = io.BytesIO()
    np.savez(buffer, images=np.round(digits.images * (255 / 16)).astype(np.uint8), labels=digits.target)
    (tmp_path / "digits.npz").write_bytes(buffer.getvalue())
    with running_service(tmp_path / "service", tmp_path / "service.log") as client:
        dataset = client.datasets.add(tmp_path / "digits.npz")
        with pytest.raises(Invalid) as wrong:
            client.teachers.train(
                "t", dataset=dataset.id, architecture=ARCHITECTURE, recipe={"finetune": {"kd_weight": 1}}
            )
        assert wrong.value.problem.errors[0].code == "recipe.needs_teacher"
        teacher = client.teachers.train(
            "made here",
            dataset=dataset.id,
            architecture=ARCHITECTURE,
            recipe={"finetune": SHORT, "augmentation": SMALL, "seed": 5},
        )
        assert teacher.training_job_id is not None
        with pytest.raises(Conflict):
            client.teachers.upload(teacher.id, tmp_path / "digits.npz")
        training = client.jobs.wait(teacher.training_job_id, timeout_seconds=120)
        assert (training.kind, training.state, training.teacher) == ("teacher.train", "succeeded", teacher.id)
        names = {metric.name for metric in client.jobs.metrics(training.id).data}
        assert {"loss/cross_entropy", "eval/top1"} <= names
        ready = client.teachers.wait(teacher.id, timeout_seconds=10)
        assert ready.report is not None
        assert ready.report.format == "trained"
        assert ready.report.accuracy["test"].top1 > 0.5  # a few epochs; one in ten is chance
        measured = client.teachers.evaluate(teacher.id, dataset.id, timeout_seconds=60)
        assert (measured.state, measured.warnings) == ("succeeded", ())
        assert measured.accuracy["test"].top1 == ready.report.accuracy["test"].top1
        assert [one.id for one in client.teachers.evaluations(teacher.id).data] == [measured.id]
        job = client.jobs.create(
            teacher=teacher.id,
            dataset=dataset.id,
            student=ARCHITECTURE,
            recipe={"transfer": SHORT, "finetune": SHORT, "augmentation": SMALL},
            devices=2,
        )
        report = client.jobs.wait(job.id, timeout_seconds=120).report
        assert report is not None
        assert report.teacher_accuracy is not None
        assert report.teacher_accuracy["test"].top1 == ready.report.accuracy["test"].top1
        assert [found.id for found in client.jobs.list().data] == [job.id]
        # Another student of the same teacher finds what the teacher said to the first.
        sibling = client.jobs.create(
            teacher=teacher.id,
            dataset=dataset.id,
            student={"arch": "resnet_cifar", "depth": 8},
            recipe={"transfer": SHORT, "finetune": SHORT, "augmentation": SMALL},
        )
        assert client.jobs.wait(sibling.id, timeout_seconds=120).state == "succeeded"
        kept = [kept_files(client, each.id) for each in (job, sibling)]
        assert kept[0][0] == 0 < kept[0][1]
        assert kept[1] == (kept[0][1], kept[0][1])
        client.jobs.delete(sibling.id)
        # Twice the same network answers as one of it does.
        both = client.teachers.wait(client.teachers.combine("both", [teacher.id] * 2).id, timeout_seconds=60)
        client.teachers.delete(teacher.id)
        assert both.report is not None
        assert both.report.description.num_parameters == 2 * ready.report.description.num_parameters
        again = client.jobs.create(
            teacher=both.id,
            dataset=dataset.id,
            student=ARCHITECTURE,
            recipe={"transfer": SHORT, "finetune": SHORT, "augmentation": SMALL},
        )
        of_both = client.jobs.wait(again.id, timeout_seconds=120).report
        assert of_both is not None
        assert of_both.teacher_accuracy is not None
        assert of_both.teacher_accuracy["test"].top1 == ready.report.accuracy["test"].top1
        assert [tap.teacher for tap in of_both.boundary_similarity] == [
            f"members.0.{tap.teacher}" for tap in report.boundary_similarity
        ]
        assert [found.id for found in client.jobs.list(kind="teacher.train").data] == [training.id]


def kept_files(client: Client, job_id: str) -> tuple[int, int]:
    """How many of the teacher's answers were there when a job began, of how many that it needs."""
    (note,) = (
        event for event in client.jobs.events(job_id).data if event.data.get("code") == "teacher.source"
    )
    found = re.search(r"(\d+) of (\d+) files are there", note.message)
    assert found is not None, note.message
    return int(found[1]), int(found[2])
