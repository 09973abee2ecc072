"""Teachers are measured on datasets: a kind of job.

Revision: 0009, after 0008.
"""

from alembic import op

revision = "0009"
down_revision = "0008"

KINDS = (
    "kind IN ('distill', 'train_teacher', 'combine_teachers', 'evaluate_teacher', 'verify_teacher', "
    "'verify_dataset')"
)


def upgrade() -> None:
    """Let jobs be of kind `evaluate_teacher`."""
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_constraint(op.f("ck_jobs_kind_known"), type_="check")
        jobs.create_check_constraint(op.f("ck_jobs_kind_known"), KINDS)
