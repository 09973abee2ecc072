"""How fast jobs went: from the nearest source that knows."""

import pytest
from sqlalchemy import update

from abcore.specs.recipes import Finetune
from abcore.specs.reports import DistillReport, ModelDescription
from store import leases
from store.models import Job, Project
from store.speeds import load_before, measured_speed


@pytest.fixture
def run(hand):
    """Runs a job of so much work, to its end in so many seconds."""

    def run(macs: float | None, seconds: float | None, **columns) -> str:
        hand.ready_dataset  # noqa: B018  # verified before anything else waits in the queue
        job = hand.submit(work_macs=macs, **columns)
        lease = hand.claim()
        if seconds is not None:
            model = ModelDescription(spec=hand.model, num_parameters=1, num_macs=1, size_bytes=4, taps=())
            report = DistillReport(
                student=model,
                teacher=None,
                student_accuracy={},
                teacher_accuracy={},
                agreement={},
                boundary_similarity=(),
                training_seconds=seconds,
                versions={},
            )
            leases.finish(hand.db, lease, report, [])
        return job.id

    return run


def test_without_any_job_there_is_nothing_to_go_by(hand, run) -> None:
    assert measured_speed(hand.db, hand.project) is None
    run(None, 2.0)  # by an earlier version, which counted no work
    run(100.0, None)  # runs, and has told nothing yet
    assert measured_speed(hand.db, hand.project) is None


def test_it_is_the_median_of_the_projects_own_jobs(hand, run) -> None:
    ids = {run(100.0, seconds) for seconds in (1.0, 10.0, 100.0)}
    speed = measured_speed(hand.db, hand.project)
    assert (speed.macs_per_second, speed.source, speed.num_jobs) == (10.0, "project", 3)
    assert set(speed.job_ids) == ids


def test_jobs_that_may_stop_early_do_not_count(hand, run) -> None:
    patient = hand.run.recipe.model_copy(
        update={"finetune": Finetune(cross_entropy_weight=1.0, kd_weight=0.0, patience=2)}
    )
    run(100.0, 1.0, run=hand.run.model_copy(update={"recipe": patient}))
    assert measured_speed(hand.db, hand.project) is None


def test_another_projects_jobs_lend_their_speed_and_not_their_names(hand, run) -> None:
    run(100.0, 5.0)
    with hand.db.write() as session:
        session.add(Project(id="prj_new", name="new"))
    speed = measured_speed(hand.db, "prj_new")
    assert (speed.macs_per_second, speed.source, list(speed.job_ids)) == (20.0, "service", [])


def test_a_running_job_is_better_than_nothing(hand, run) -> None:
    id_ = run(100.0, None)
    with hand.db.write() as session:
        session.execute(update(Job).where(Job.id == id_).values(progress=0.25, run_seconds=5.0))
    speed = measured_speed(hand.db, hand.project)
    assert (speed.macs_per_second, speed.source) == (5.0, "running")


def test_the_load_before_a_job_is_in_the_order_in_which_it_is_taken(hand) -> None:
    for priority, macs in ((0, 1.0), (5, 2.0), (-5, 3.0), (0, 4.0)):
        hand.submit(priority=priority, work_macs=macs)
    load = load_before(hand.db, 0, 60.0)
    assert (list(load.macs), load.jobs_ahead) == ([2.0, 1.0, 4.0], 3)
    assert list(load_before(hand.db, 10, 60.0).macs) == []
