"""One attempt, whatever its child does. Real children, a real database; the worker is in this process."""

import os

import pytest
from sqlalchemy import update

import leash
from store import logs
from store.models import Job

# Where what is claimed is not the database's affair, one kind is enough.
sqlite_only = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def test_a_job_runs_to_success(house) -> None:
    job = house.submit()
    with house.shift("quick") as shift:
        shift.work()
        done = house.get(job)
        assert (done.state, done.progress, done.step) == ("succeeded", 1.0, 5)
        assert done.report["training_seconds"] == 1.0
        assert [(metric.step, metric.value) for metric in house.metrics(job)] == [
            (step, 1 / step) for step in range(1, 6)
        ]
        types = house.types(job)
        assert types[:3] == ["job.queued", "job.running", "run.started"]
        assert types[-2:] == ["run.finished", "job.succeeded"]
        files = house.files(job)
        assert house.read(files["student.safetensors"]) == b"weights"
        assert files["student.safetensors"].blob_key == f"jobs/{job.id}/1/student.safetensors"
        assert house.read(files["log-1.txt"]) == b"a line of the log\n"
        (part,) = logs.read(house.db, job.project_id, job.id)
        assert (part.attempt, part.text) == (1, "a line of the log\n")
        assert not house.left_behind()


@sqlite_only
@pytest.mark.parametrize("waiting", [False, True])
def test_the_child_is_in_an_empty_room(house, monkeypatch, waiting: bool) -> None:
    """No database, no key, no broker, no network, no foreign code in its own folder; its inputs cannot be written."""
    monkeypatch.setenv("ABDISTILL_DATABASE_URL", "postgresql://secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    job = house.submit()
    with house.shift("probe", warm_children=waiting) as shift:
        shift.work()
    seen = next(event for event in house.events(job) if event.type == "note").data["details"]
    environment = seen["environment"]
    assert "secret" not in str(environment)
    own = {name for name in environment if name.startswith("ABDISTILL")}
    assert own == {"ABDISTILL_DEVICE", "ABDISTILL_TEACHER_CACHE_BYTES", "ABDISTILL_MEMORY_HALVINGS"}
    assert environment["CUDA_VISIBLE_DEVICES"] == "7"
    assert environment["HOME"] == environment["TMPDIR"] == f"{seen['folder']}/tmp"
    if not leash_without_network().missing:
        assert seen["network"] != os.readlink("/proc/self/ns/net")
        assert seen["interfaces"] == ["lo"]
    assert seen["inputs"] == {"dataset.safetensors": ["images", "0o444"]}
    assert seen["run"] == job.run


def leash_without_network() -> leash.Leashed:
    leashed = leash.spawn(["true"], limits=leash.Limits(network=False))
    leashed.wait()
    return leashed


def test_a_refusal_ends_the_job_at_once(house) -> None:
    job = house.submit()
    with house.shift("refuse") as shift:
        shift.work()
    failed = house.get(job)
    assert (failed.state, failed.crashes) == ("failed", 0)
    assert [problem["code"] for problem in failed.problems] == ["data.empty"]
    assert "log-1.txt" in house.files(job)


def test_three_crashes_end_the_job_with_its_last_words(house) -> None:
    job = house.submit()
    with house.shift("crash") as shift:
        for crashes in (1, 2, 3):
            shift.work()
            assert house.get(job).crashes == crashes
            house.let_wait_pass()
    failed = house.get(job)
    assert failed.state == "failed"
    assert failed.problems[0]["value"] == "a line of the log\nthe last words"
    assert "exit code 3" in failed.problems[0]["message"]
    files = house.files(job)
    assert {"log-1.txt", "log-2.txt", "log-3.txt"} < set(files)
    checkpoints = [file for file in files.values() if file.kind == "checkpoint"]
    assert {house.read(file) for file in checkpoints} == {b"3"}
    assert len(checkpoints) == 2, "the last two are kept"
    stored = list(house.blobs.list(f"jobs/{job.id}/checkpoints"))
    assert sorted(stored) == sorted(file.blob_key for file in checkpoints)


@sqlite_only
@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        ("lie", "but the child said"),
        ("climb", "not a regular file"),
        ("link_out", "not a regular file"),
        ("no_result", "result.json is missing"),
        ("babble", "cannot be read"),
        ("leave", "exit code 75"),
    ],
)
def test_a_child_is_not_believed(house, behaviour: str, said: str) -> None:
    (house.folder / "secret").write_bytes(b"the host's secret")
    job = house.submit()
    with house.shift(behaviour) as shift:
        shift.work()
    crashed = next(event for event in house.events(job) if event.type == "job.crashed")
    assert said in crashed.data["problem"]["message"]
    assert house.get(job).crashes == 1
    assert "student.safetensors" not in house.files(job)
    assert b"the host's secret" not in {
        b"".join(house.blobs.open_range(key)) for key in house.blobs.list(f"jobs/{job.id}")
    }


def test_cancelling_stops_the_child(house) -> None:
    job = house.submit()
    with house.at_work("train"):
        house.wait_for(job, "checkpoint.saved")
        request(house, job, "cancel")
        assert house.wait(job, lambda now: now.state != "running").state == "cancelled"
    assert house.nobody_left()
    assert house.types(job)[-1] == "job.cancelled"


def test_pausing_keeps_the_checkpoint(house) -> None:
    job = house.submit()
    with house.at_work("train"):
        house.wait_for(job, "checkpoint.saved")
        request(house, job, "pause")
        assert house.wait(job, lambda now: now.state != "running").state == "paused"
    assert house.types(job)[-2:] == ["run.interrupted", "job.paused"]
    assert [file for file in house.files(job).values() if file.kind == "checkpoint"]


def request(house, job: Job, what: str) -> None:
    from store import jobs

    {"cancel": jobs.request_cancel, "pause": jobs.request_pause}[what](house.db, job.project_id, job.id)


@sqlite_only
@pytest.mark.timeout(60)
def test_a_slot_is_for_one_job(house) -> None:
    first, second = house.submit(), house.submit()
    with house.at_work("train") as shift:
        house.wait(first, lambda now: now.step == 4)
        shift.work()  # as at a ring: nothing is free, so it returns at once
        assert house.get(second).state == "queued"
        house.open_gate()
        house.wait(second, lambda now: now.state == "succeeded")  # who has the slot goes on to the rest


def test_a_stopping_worker_gives_the_job_back_and_the_next_goes_on(house) -> None:
    job = house.submit()
    with house.at_work("train") as shift:
        house.wait(job, lambda now: now.step == 4)
        shift.stopping.set()
        back = house.wait(job, lambda now: now.state != "running")
    assert (back.state, back.crashes) == ("queued", 0)
    house.open_gate()
    with house.shift("train") as shift:
        shift.work()
    done = house.get(job)
    assert (done.state, done.attempts) == ("succeeded", 2)
    resumed = next(event for event in house.events(job) if event.type == "run.resumed")
    assert resumed.data["step"] == 4
    assert [metric.step for metric in house.metrics(job)] == [1, 2, 3, 4, 5]


@sqlite_only
def test_a_child_that_will_not_stop_is_stopped(house) -> None:
    job = house.submit()
    with house.at_work("stubborn", grace_seconds=0.3) as shift:
        house.wait_for(job, "checkpoint.saved")
        shift.stopping.set()
        assert house.wait(job, lambda now: now.state != "running").state == "queued"
    assert house.nobody_left()


def test_a_lost_lease_ends_the_child_and_writes_nothing(house) -> None:
    job = house.submit()
    with house.at_work("stubborn", lease_seconds=60.0):
        house.wait_for(job, "checkpoint.saved")
        before = house.types(job)
        with house.db.write() as session:
            taken = update(Job).where(Job.id == job.id)
            session.execute(taken.values(lease_epoch=Job.lease_epoch + 1, lease_owner="somebody else"))
        assert house.nobody_left(), "at the next heartbeat, not when the lease would have run out"
    after = house.get(job)
    assert (after.state, after.lease_owner) == ("running", "somebody else")
    assert house.types(job) == before
    assert "log-1.txt" not in house.files(job)


@sqlite_only
def test_a_damaged_checkpoint_gives_way_to_the_one_before(house) -> None:
    job = house.submit()
    with house.at_work("train") as shift:
        house.wait(job, lambda now: now.step == 4)
        shift.stopping.set()
    kept = sorted(file.blob_key for file in house.files(job).values() if file.kind == "checkpoint")
    house.put(kept[-1], b"damaged")
    house.open_gate()
    with house.shift("train") as shift:
        shift.work()
    resumed = [event.data["step"] for event in house.events(job) if event.type == "run.resumed"]
    # Checkpoints are uploaded as they come, the newest of a batch: there may have been but one.
    assert resumed == ([int(kept[-2][-4:])] if len(kept) > 1 else [])
    assert house.get(job).state == "succeeded"


@sqlite_only
def test_a_missing_input_is_said(house) -> None:
    job = house.submit()
    house.blobs.delete(f"datasets/{house.dataset_id}/dataset.safetensors")
    with house.shift("quick") as shift:
        shift.work()
    crashed = next(event for event in house.events(job) if event.type == "job.crashed")
    assert crashed.data["problem"]["code"] == "worker.input_missing"
    assert house.dataset_id in crashed.data["problem"]["message"]


def test_an_upload_is_forgotten_once_it_was_read(house) -> None:
    teacher = house.upload_teacher(b"not a checkpoint")
    with house.shift("refuse") as shift:
        shift.work()
    from store import teachers

    row = teachers.get(house.db, teacher.project_id, teacher.id)
    assert row.state == "invalid"
    assert row.problems[0]["code"] == "data.empty"
    assert not list(house.blobs.list(f"uploads/{teacher.id}"))
    assert not house.left_behind()


@sqlite_only
def test_an_upload_is_kept_while_it_may_be_tried_again(house) -> None:
    teacher = house.upload_teacher(b"a checkpoint")
    with house.shift("crash") as shift:
        shift.work()
    assert list(house.blobs.list(f"uploads/{teacher.id}"))


@sqlite_only
def test_a_long_log_is_cut_at_its_beginning(house) -> None:
    job = house.submit()
    with house.shift("flood") as shift:
        shift.work()
    log = house.read(house.files(job)["log-1.txt"])
    assert len(log) <= 2**20
    assert log.startswith(b"line 0")
    assert log.endswith(b"line 059999 " + b"x" * 30 + b"\n")
    shown = logs.tail(house.db, job.project_id, job.id, 1)
    assert shown[0].text.startswith("line 059999 ")


@sqlite_only
def test_a_log_that_leads_elsewhere_is_not_read(house) -> None:
    (house.folder / "secret").write_bytes(b"the host's secret")
    job = house.submit()
    with house.shift("link_log") as shift:
        shift.work()
    assert house.get(job).state == "succeeded"
    assert not [name for name in house.files(job) if name.startswith("log")]
    assert "secret" not in "".join(part.text for part in logs.read(house.db, job.project_id, job.id))


@sqlite_only
def test_inputs_are_fetched_once_and_bounded(house) -> None:
    first, second = house.submit(), house.submit()
    with house.shift("quick") as shift:
        shift.work()
    cache = house.settings.workspace_dir / "cache"
    assert [path.read_bytes() for path in cache.iterdir()] == [b"images"]
    assert {house.get(job).state for job in (first, second)} == {"succeeded"}
    house.blobs.delete(f"datasets/{house.dataset_id}/dataset.safetensors")
    third = house.submit()
    with house.shift("quick") as shift:
        shift.work()
    assert house.get(third).state == "succeeded", "from the cache"
    assert os.stat(next(cache.iterdir())).st_nlink == 1
