"""The rows. Times are UNIX seconds by the database's clock; ids are strings that say their kind."""

from typing import Any, Literal

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Double,
    ForeignKey,
    Index,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, declared_attr, mapped_column

import store.answer_models
import store.audit_models
import store.job_models
import store.upload_models  # noqa: F401  # the tables of all belong to the metadata
from store.columns import Base, CleanString, json_type, unix_now

JobKind = Literal[
    "distill", "train_teacher", "combine_teachers", "evaluate_teacher", "verify_teacher", "verify_dataset"
]
JobState = Literal["queued", "running", "paused", "succeeded", "failed", "cancelled"]
UploadState = Literal["pending", "ready", "invalid"]
StopRequest = Literal["cancel", "pause"]
EventType = Literal[
    "job.queued",
    "job.running",
    "job.paused",
    "job.succeeded",
    "job.failed",
    "job.cancelled",
    "teacher.ready",
    "teacher.invalid",
    "dataset.ready",
    "dataset.invalid",
]
DeliveryState = Literal["pending", "succeeded", "failed"]
Json = dict[str, Any]

ENDED: frozenset[JobState] = frozenset({"succeeded", "failed", "cancelled"})
DEFAULT_PROJECT = "prj_default"

_Id = CleanString(40)
_Sha256 = String(64)


def _one_of(column: str, *values: str) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=f"{column}_known")


class Project(Base):
    """A tenant: everything belongs to one, and is invisible to the others. A limit that is null is none."""

    __tablename__ = "projects"

    id: Mapped[str] = mapped_column(_Id, primary_key=True)
    name: Mapped[str] = mapped_column(CleanString)
    max_stored_bytes: Mapped[int | None] = mapped_column(BigInteger)
    max_running_jobs: Mapped[int | None] = mapped_column(BigInteger)
    max_queued_jobs: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[float] = mapped_column(Double, default=unix_now())


class ApiKey(Base):
    """Who may ask. The secret itself is nowhere: `secret_sha256` is its hash, `hint` its last four characters.

    Until `previous_until` the secret before the last rotation opens too. `last_used_at` is good to a minute.
    """

    __tablename__ = "api_keys"
    __table_args__ = (Index(None, "project_id", "created_at", "id"),)

    id: Mapped[str] = mapped_column(_Id, primary_key=True)
    project_id: Mapped[str] = mapped_column(_Id, ForeignKey("projects.id"))
    name: Mapped[str] = mapped_column(CleanString)
    secret_sha256: Mapped[str] = mapped_column(_Sha256, unique=True)
    hint: Mapped[str] = mapped_column(String(8))
    scopes: Mapped[list[str]] = mapped_column(json_type)
    previous_sha256: Mapped[str | None] = mapped_column(_Sha256, unique=True)
    previous_until: Mapped[float | None] = mapped_column(Double)
    expires_at: Mapped[float | None] = mapped_column(Double)
    last_used_at: Mapped[float | None] = mapped_column(Double)
    created_at: Mapped[float] = mapped_column(Double, default=unix_now())
    revoked_at: Mapped[float | None] = mapped_column(Double)


class _Upload:
    """Content that a user sends: `pending` until a verification job has made it `ready` or `invalid`.

    `blob_key` says where its bytes are: the upload as it came until it is verified, the verified file after. What came
    in parts is the upload `upload_id`, as long as that is kept; what is imported is read at `source`.
    `upload_sha256` and `upload_bytes` speak of what came, `sha256` and `size_bytes` of the verified file.
    """

    id: Mapped[str] = mapped_column(_Id, primary_key=True)
    name: Mapped[str] = mapped_column(CleanString)
    state: Mapped[UploadState] = mapped_column(String(16), default="pending")
    state_detail: Mapped[str | None] = mapped_column(CleanString)
    upload_sha256: Mapped[str | None] = mapped_column(_Sha256)
    upload_bytes: Mapped[int | None] = mapped_column(BigInteger)
    upload_id: Mapped[str | None] = mapped_column(_Id, index=True)
    source: Mapped[str | None] = mapped_column(CleanString)
    blob_key: Mapped[str | None] = mapped_column(String(512))
    sha256: Mapped[str | None] = mapped_column(_Sha256)
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    report: Mapped[Json | None] = mapped_column(json_type)
    problems: Mapped[list[Json] | None] = mapped_column(json_type)
    created_at: Mapped[float] = mapped_column(Double, default=unix_now())
    updated_at: Mapped[float] = mapped_column(Double, default=unix_now())
    deleted_at: Mapped[float | None] = mapped_column(Double)

    @declared_attr
    def project_id(cls) -> Mapped[str]:  # noqa: N805 - a declared_attr is given the class
        """The owner."""
        return mapped_column(_Id, ForeignKey("projects.id"))


class Teacher(_Upload, Base):
    """A trained network. `normalization` null: the one of the dataset it is used with.

    `training_job_id` is the job that makes it, if it is not uploaded.
    """

    __tablename__ = "teachers"
    __table_args__ = (
        Index(None, "project_id", "created_at", "id"),
        _one_of("state", "pending", "ready", "invalid"),
    )

    model: Mapped[Json] = mapped_column(json_type)
    normalization: Mapped[Json | None] = mapped_column(json_type)
    # No foreign key: the job refers to its teacher, and a circle of them could not be inserted.
    training_job_id: Mapped[str | None] = mapped_column(_Id)


class Dataset(_Upload, Base):
    """Labelled images. `options`: the fields of a `VerifyDatasetRun` that its user chose."""

    __tablename__ = "datasets"
    __table_args__ = (
        Index(None, "project_id", "created_at", "id"),
        _one_of("state", "pending", "ready", "invalid"),
    )

    options: Mapped[Json] = mapped_column(json_type)


class Job(Base):
    """One piece of work and its whole state; `store.moves` says which state may follow which.

    `spec` is what its user asked for, `run` the `abcore.specs.runs.Run` that a child is given. `lease_epoch` counts
    claims: whoever holds an older one is fenced off. `stop_requested` is how a user speaks to a running job.
    `crashes` counts those since the job last got further: `checkpoint_step` is that of its furthest checkpoint,
    `crash_step` what that was at its last crash. `work_macs` are the multiply-accumulates of its training, forward and
    backward. `run_seconds` is how long its children have run, over all attempts. `log_seq` and `log_bytes` count what
    its log has had, also what is not kept any more.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("project_id", "idempotency_key"),
        Index(None, "project_id", "kind", "created_at", "id"),
        Index(None, "project_id", "kind", "state", "created_at", "id"),
        Index(None, "project_id", "kind", "method", "created_at", "id"),
        Index(None, "project_id", "kind", "priority", "created_at", "id"),
        Index(None, "project_id", "kind", "ended_at", "id"),
        Index(None, "sweep_id", "created_at", "id"),
        Index("ix_jobs_claimable", "priority", "created_at", "id",
              sqlite_where=text("state = 'queued'"), postgresql_where=text("state = 'queued'")),
        Index("ix_jobs_leased", "lease_expires_at",
              sqlite_where=text("state = 'running'"), postgresql_where=text("state = 'running'")),
        Index(None, "teacher_id"),
        Index(None, "dataset_id"),
        _one_of("kind", "distill", "train_teacher", "combine_teachers", "evaluate_teacher", "verify_teacher",
                "verify_dataset"),
        _one_of("state", "queued", "running", "paused", "succeeded", "failed", "cancelled"),
        _one_of("stop_requested", "cancel", "pause"),
        CheckConstraint("(state = 'running') = (lease_owner IS NOT NULL)", name="only_running_is_leased"),
    )  # fmt: skip

    id: Mapped[str] = mapped_column(_Id, primary_key=True)
    project_id: Mapped[str] = mapped_column(_Id, ForeignKey("projects.id"))
    kind: Mapped[JobKind] = mapped_column(String(16))
    name: Mapped[str | None] = mapped_column(CleanString)
    labels: Mapped[dict[str, str]] = mapped_column(json_type)
    state: Mapped[JobState] = mapped_column(String(16), default="queued")
    state_reason: Mapped[str | None] = mapped_column(CleanString)
    stop_requested: Mapped[StopRequest | None] = mapped_column(String(8))
    priority: Mapped[int] = mapped_column(default=0)
    spec: Mapped[Json] = mapped_column(json_type)
    run: Mapped[Json] = mapped_column(json_type)
    plan: Mapped[Json | None] = mapped_column(json_type)
    teacher_id: Mapped[str | None] = mapped_column(_Id, ForeignKey("teachers.id"))
    dataset_id: Mapped[str | None] = mapped_column(_Id, ForeignKey("datasets.id"))
    sweep_id: Mapped[str | None] = mapped_column(_Id, ForeignKey("job_sweeps.id"))
    method: Mapped[str | None] = mapped_column(String(32))
    work_macs: Mapped[float | None] = mapped_column(Double)
    max_runtime_seconds: Mapped[int | None] = mapped_column(BigInteger)
    devices: Mapped[int] = mapped_column(default=1, server_default="1")
    idempotency_key: Mapped[str | None] = mapped_column(CleanString(255))
    idempotency_hash: Mapped[str | None] = mapped_column(_Sha256)

    lease_epoch: Mapped[int] = mapped_column(default=0)
    lease_owner: Mapped[str | None] = mapped_column(String(255))
    lease_expires_at: Mapped[float | None] = mapped_column(Double)
    attempts: Mapped[int] = mapped_column(default=0)
    crashes: Mapped[int] = mapped_column(default=0)
    crash_step: Mapped[int] = mapped_column(BigInteger, default=0)
    checkpoint_step: Mapped[int] = mapped_column(BigInteger, default=0)
    not_before: Mapped[float | None] = mapped_column(Double)
    event_seq: Mapped[int] = mapped_column(BigInteger, default=0)
    metric_batch: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    run_seconds: Mapped[float] = mapped_column(Double, default=0.0, server_default="0")
    log_seq: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    log_bytes: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")

    progress: Mapped[float] = mapped_column(Double, default=0.0)
    phase: Mapped[str | None] = mapped_column(String(32))
    epoch: Mapped[int | None] = mapped_column(BigInteger)
    step: Mapped[int | None] = mapped_column(BigInteger)
    images_per_second: Mapped[float | None] = mapped_column(Double)
    eta_seconds: Mapped[float | None] = mapped_column(Double)
    report: Mapped[Json | None] = mapped_column(json_type)
    problems: Mapped[list[Json] | None] = mapped_column(json_type)

    created_at: Mapped[float] = mapped_column(Double, default=unix_now())
    started_at: Mapped[float | None] = mapped_column(Double)
    ended_at: Mapped[float | None] = mapped_column(Double)
    updated_at: Mapped[float] = mapped_column(Double, default=unix_now())


class Event(Base):
    """Something that happened to a job. `seq` counts from 1 without a gap; a child's events carry the child's time."""

    __tablename__ = "events"

    job_id: Mapped[str] = mapped_column(_Id, ForeignKey("jobs.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    time: Mapped[float] = mapped_column(Double)
    level: Mapped[Literal["info", "warning", "error"]] = mapped_column(String(8))
    type: Mapped[str] = mapped_column(String(64))
    message: Mapped[str] = mapped_column(CleanString)
    data: Mapped[Json] = mapped_column(json_type)


class Metric(Base):
    """One figure at one step. A later attempt that comes by the same step again overwrites it.

    `batch` counts a job's writes of figures from 1: what was written together has the same.
    """

    __tablename__ = "metrics"
    __table_args__ = (Index(None, "job_id", "batch"),)

    job_id: Mapped[str] = mapped_column(_Id, ForeignKey("jobs.id"), primary_key=True)
    phase: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(CleanString, primary_key=True)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    batch: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    epoch: Mapped[int] = mapped_column(BigInteger)
    value: Mapped[float] = mapped_column(Double)
    time: Mapped[float] = mapped_column(Double)


class Artifact(Base):
    """A file that a job left: its bytes are at `blob_key` of the blob store before this row exists."""

    __tablename__ = "artifacts"
    __table_args__ = (UniqueConstraint("job_id", "name"),)

    id: Mapped[str] = mapped_column(_Id, primary_key=True)
    job_id: Mapped[str] = mapped_column(_Id, ForeignKey("jobs.id"))
    lease_epoch: Mapped[int] = mapped_column()
    name: Mapped[str] = mapped_column(CleanString)
    kind: Mapped[str] = mapped_column(String(32))
    media_type: Mapped[str] = mapped_column(String(255))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(_Sha256)
    blob_key: Mapped[str] = mapped_column(String(512))
    created_at: Mapped[float] = mapped_column(Double, default=unix_now())


class Sweep(Base):
    """The guarded row: whoever moves `swept_at` on does the sweep, the others go home."""

    __tablename__ = "sweeps"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    swept_at: Mapped[float] = mapped_column(Double)


class Webhook(Base):
    """Where a project wants to be told of changes of state, and of which.

    `secrets` are those that sign: `{"secret": "whsec_...", "until": UNIX seconds or null}`, the newest first.
    """

    __tablename__ = "webhooks"
    __table_args__ = (Index(None, "project_id", "created_at", "id"),)

    id: Mapped[str] = mapped_column(_Id, primary_key=True)
    project_id: Mapped[str] = mapped_column(_Id, ForeignKey("projects.id"))
    url: Mapped[str] = mapped_column(CleanString)
    description: Mapped[str | None] = mapped_column(CleanString)
    events: Mapped[list[EventType]] = mapped_column(json_type)
    enabled: Mapped[bool] = mapped_column(default=True)
    disabled_reason: Mapped[str | None] = mapped_column(CleanString)
    secrets: Mapped[list[Json]] = mapped_column(json_type)
    created_at: Mapped[float] = mapped_column(Double, default=unix_now())
    updated_at: Mapped[float] = mapped_column(Double, default=unix_now())


class Delivery(Base):
    """One event for one webhook, written with the change that it tells of, and how often it was sent.

    `event_id` is the same for all webhooks that are told of the event, and at every attempt. `body` is what is sent,
    byte for byte. `attempts` counts claims: whoever holds an older one is fenced off. `failures` counts attempts that
    were answered badly or not at all, since the event or since it was last asked to be sent again.
    """

    __tablename__ = "deliveries"
    __table_args__ = (
        Index(None, "webhook_id", "created_at", "id"),
        Index("ix_deliveries_due", "next_attempt_at",
              sqlite_where=text("state = 'pending'"), postgresql_where=text("state = 'pending'")),
        Index("ix_deliveries_leased", "webhook_id",
              sqlite_where=text("lease_expires_at IS NOT NULL"),
              postgresql_where=text("lease_expires_at IS NOT NULL")),
        _one_of("state", "pending", "succeeded", "failed"),
    )  # fmt: skip

    id: Mapped[str] = mapped_column(_Id, primary_key=True)
    webhook_id: Mapped[str] = mapped_column(_Id, ForeignKey("webhooks.id"))
    event_id: Mapped[str] = mapped_column(_Id)
    type: Mapped[str] = mapped_column(String(32))
    body: Mapped[str] = mapped_column(Text)
    state: Mapped[DeliveryState] = mapped_column(String(16), default="pending")
    attempts: Mapped[int] = mapped_column(default=0)
    failures: Mapped[int] = mapped_column(default=0)
    response_status: Mapped[int | None] = mapped_column()
    error: Mapped[str | None] = mapped_column(CleanString)
    next_attempt_at: Mapped[float | None] = mapped_column(Double, default=unix_now())
    lease_expires_at: Mapped[float | None] = mapped_column(Double)
    attempted_at: Mapped[float | None] = mapped_column(Double)
    created_at: Mapped[float] = mapped_column(Double, default=unix_now())
