"""Teachers that are trained here: pending until their job has ended, whatever way it ends."""

import pytest

from abcore.specs.recipes import Finetune, Recipe
from abcore.specs.reports import Accuracy
from abcore.specs.runs import TrainTeacherRun
from store import datasets, jobs, teachers
from store.errors import AlreadyUploaded, InUse, NotFound, NotReady
from store.leases import Directive, fail, finish, renew

ALONE = Recipe(transfer=None, finetune=Finetune(cross_entropy_weight=1.0, kd_weight=0.0))


@pytest.fixture
def train(hand):
    def train(dataset_id: str | None = None):
        run = TrainTeacherRun(model=hand.model, normalization=hand.run.normalization, recipe=ALONE)
        return teachers.train(
            hand.db,
            hand.project,
            name="made here",
            dataset_id=dataset_id or hand.ready_dataset,
            run=run,
            spec={"student": {}},
            work_macs=1.0,
            plan={},
        )

    return train


def test_its_job_makes_it_ready(hand, train) -> None:
    teacher = train()
    assert (teacher.state, teacher.sha256) == ("pending", None)
    lease = hand.claim()
    assert lease.job.id == teacher.training_job_id
    assert (lease.job.kind, lease.job.teacher_id) == ("train_teacher", teacher.id)
    assert TrainTeacherRun.model_validate(lease.job.run).model == hand.model
    accuracy = {"test": Accuracy(top1=0.9, top5=1.0, loss=0.3, num_images=10)}
    report = hand.report(teacher).model_copy(update={"format": "trained", "accuracy": accuracy})
    finish(hand.db, lease, report, [hand.file("teacher")])
    ready = teachers.get(hand.db, hand.project, teacher.id)
    assert (ready.state, ready.sha256, ready.report["accuracy"]["test"]["top1"]) == ("ready", "2" * 64, 0.9)
    assert ready.normalization == hand.run.normalization.model_dump(mode="json")
    hand.submit(teacher_id=teacher.id)


def test_no_student_is_made_of_a_result_without_weights(hand, train) -> None:
    train()
    lease = hand.claim()
    with pytest.raises(ValueError, match="shall make a teacher"):
        finish(
            hand.db,
            lease,
            hand.report(teachers.list_(hand.db, hand.project).items[0]),
            [hand.file("student")],
        )
    assert jobs.get(hand.db, hand.project, lease.job.id).state == "running"


def test_a_failure_and_a_cancel_make_it_invalid(hand, train, problem) -> None:
    failed, cancelled = train(), train()
    fail(hand.db, hand.claim(), [problem])
    jobs.request_cancel(hand.db, hand.project, cancelled.training_job_id)
    states = [teachers.get(hand.db, hand.project, row.id) for row in (failed, cancelled)]
    assert [(row.state, row.problems[0]["code"]) for row in states] == [
        ("invalid", "child.killed"),
        ("invalid", "training.cancelled"),
    ]


def test_its_dataset_is_needed_until_it_is_trained(hand, train) -> None:
    train()
    with pytest.raises(InUse):
        datasets.delete(hand.db, hand.project, hand.ready_dataset)
    lease = hand.claim()
    with pytest.raises(InUse):
        datasets.delete(hand.db, hand.project, hand.ready_dataset)
    assert renew(hand.db, lease, 60) is Directive.CONTINUE


def test_deleting_it_stops_its_training(hand, train) -> None:
    waiting, running = train(), train()
    lease = hand.claim()
    assert lease.job.id == waiting.training_job_id
    for teacher in (waiting, running):
        teachers.delete(hand.db, hand.project, teacher.id)
    assert renew(hand.db, lease, 60) is Directive.CANCEL
    assert jobs.get(hand.db, hand.project, running.training_job_id).state == "cancelled"


def test_it_takes_no_checkpoint_and_needs_a_dataset_that_is_ready(hand, train) -> None:
    teacher = train()
    with pytest.raises(AlreadyUploaded, match="is made here"):
        teachers.attach_upload(hand.db, hand.project, teacher.id, "uploads/x/1", "1" * 64, 3)
    unready = datasets.create(hand.db, hand.project, name="d", filename="d.npz")
    with pytest.raises(NotReady):
        train(unready.id)
    with pytest.raises(NotFound):
        train("dst_none")
