"""Figures are numbered by batch, so that a stream of them can go on where it was cut.

Revision: 0003, after 0002.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add `jobs.metric_batch` and `metrics.batch`; what was recorded before is batch 0."""
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("metric_batch", sa.BigInteger(), nullable=False, server_default="0"))
    with op.batch_alter_table("metrics") as metrics:
        metrics.add_column(sa.Column("batch", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_index(op.f("ix_metrics_job_id_batch"), "metrics", ["job_id", "batch"])
