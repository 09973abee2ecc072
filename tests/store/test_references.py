"""Every blob key that a row holds is known, until the row is gone; and no column that holds one is forgotten."""

from sqlalchemy import update

from store import artifacts, datasets, job_changes, jobs, leases, references, teachers
from store.columns import Base
from store.leases import NewArtifact
from store.models import Artifact


def test_no_column_that_holds_a_key_is_forgotten() -> None:
    held = {
        f"{table.name}.{column.name}"
        for table in Base.metadata.tables.values()
        for column in table.columns
        if "blob_key" in column.name
    }
    asked = {
        f"{column.table.name}.{column.name}"
        for rows in references._rows()
        for column in rows.selected_columns
    }
    assert asked == held


def test_teachers_and_datasets_hold_their_files_until_they_are_deleted(hand) -> None:
    teacher = hand.verified(teachers.create(hand.db, hand.project, name="t", model=hand.model))
    with hand.db.write() as session:  # as a worker names it
        session.execute(update(type(teacher)).values(blob_key="teachers/a/teacher.safetensors"))
        session.execute(update(Artifact).values(blob_key="teachers/a/teacher.safetensors"))
    keys = ["teachers/a/teacher.safetensors", "teachers/a/other"]
    assert references.referenced(hand.db, keys) == {keys[0]}
    teachers.delete(hand.db, hand.project, teacher.id)
    assert references.referenced(hand.db, keys) == set(), (
        "the job's row outlives the teacher, the file does not"
    )


def test_a_jobs_files_are_held_until_it_is_deleted(hand) -> None:
    job = hand.submit()
    lease = hand.claim()
    keys = [f"jobs/{job.id}/1/file-{number}" for number in range(1200)]
    for key in keys[:2]:
        file = NewArtifact(key[-6:], "log", "text/plain", 1, "0" * 64, key)
        artifacts.add(hand.db, lease, file)
    assert references.referenced(hand.db, keys) == set(keys[:2])
    jobs.request_cancel(hand.db, hand.project, job.id)
    leases.acknowledge_cancel(hand.db, lease)
    job_changes.delete_job(hand.db, hand.project, job.id)
    assert references.referenced(hand.db, keys) == set()


def test_pending_content_is_held(hand) -> None:
    dataset = datasets.create(hand.db, hand.project, name="d", filename="d.zip")
    datasets.attach_upload(hand.db, hand.project, dataset.id, "uploads/a/1", "a" * 64, 7)
    assert references.referenced(hand.db, ["uploads/a/1", "uploads/a/2"]) == {"uploads/a/1"}
