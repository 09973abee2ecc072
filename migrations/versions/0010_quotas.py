"""What a project may have.

Revision: 0010, after 0009.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add limits to `projects`."""
    with op.batch_alter_table("projects") as projects:
        for limit in ("max_stored_bytes", "max_running_jobs", "max_queued_jobs"):
            projects.add_column(sa.Column(limit, sa.BigInteger()))
