"""Workers that are known, sweeps, logs while they are written; what a job costs, and how long it may run.

Revision: 0006, after 0005.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0006"
down_revision = "0005"

JSON = sa.JSON().with_variant(JSONB(), "postgresql")
LISTS = (
    ["project_id", "kind", "method", "created_at", "id"],
    ["project_id", "kind", "priority", "created_at", "id"],
    ["project_id", "kind", "ended_at", "id"],
    ["sweep_id", "created_at", "id"],
)


def upgrade() -> None:
    """Create `workers`, `job_sweeps` and `log_chunks`; add what jobs know of them, and an index for each list."""
    op.create_table(
        "workers",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
    )
    _job_sweeps()
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("sweep_id", sa.String(40)))
        jobs.create_foreign_key(op.f("fk_jobs_sweep_id"), "job_sweeps", ["sweep_id"], ["id"])
        jobs.add_column(sa.Column("method", sa.String(32)))
        jobs.add_column(sa.Column("work_macs", sa.Double()))
        jobs.add_column(sa.Column("max_runtime_seconds", sa.BigInteger()))
        jobs.add_column(sa.Column("run_seconds", sa.Double(), nullable=False, server_default="0"))
        jobs.add_column(sa.Column("log_seq", sa.BigInteger(), nullable=False, server_default="0"))
        jobs.add_column(sa.Column("log_bytes", sa.BigInteger(), nullable=False, server_default="0"))
    if op.get_bind().dialect.name == "postgresql":
        op.execute("UPDATE jobs SET method = spec #>> '{recipe,method,name}' WHERE kind = 'distill'")
    else:
        op.execute(
            "UPDATE jobs SET method = json_extract(spec, '$.recipe.method.name') WHERE kind = 'distill'"
        )
    for columns in LISTS:
        op.create_index(op.f(f"ix_jobs_{'_'.join(columns)}"), "jobs", columns)
    op.create_table(
        "log_chunks",
        sa.Column("job_id", sa.String(40), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_log_chunks_job_id")),
        sa.PrimaryKeyConstraint("job_id", "seq", name=op.f("pk_log_chunks")),
    )


def _job_sweeps() -> None:
    op.create_table(
        "job_sweeps",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("project_id", sa.String(40), nullable=False),
        sa.Column("name", sa.String()),
        sa.Column("spec", JSON, nullable=False),
        sa.Column("idempotency_key", sa.String(255)),
        sa.Column("idempotency_hash", sa.String(64)),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_job_sweeps_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_sweeps")),
        sa.UniqueConstraint(
            "project_id", "idempotency_key", name=op.f("uq_job_sweeps_project_id_idempotency_key")
        ),
    )
    op.create_index(
        op.f("ix_job_sweeps_project_id_created_at_id"), "job_sweeps", ["project_id", "created_at", "id"]
    )
