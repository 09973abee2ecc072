"""Teachers that the service makes: the job that does it, and its kinds.

Revision: 0002, after 0001.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

KINDS = "kind IN ('distill', 'train_teacher', 'combine_teachers', 'verify_teacher', 'verify_dataset')"


def upgrade() -> None:
    """Add `teachers.training_job_id`, and let jobs be of kinds `train_teacher` and `combine_teachers`."""
    with op.batch_alter_table("teachers") as teachers:
        teachers.add_column(sa.Column("training_job_id", sa.String(40)))
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_constraint(op.f("ck_jobs_kind_known"), type_="check")
        jobs.create_check_constraint(op.f("ck_jobs_kind_known"), KINDS)
