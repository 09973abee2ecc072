"""How many devices a job asks for, and how many the slots of a worker have.

Revision: 0011, after 0010.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add a column to `jobs` and one to `workers`."""
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("devices", sa.Integer(), server_default="1", nullable=False))
    with op.batch_alter_table("workers") as workers:
        workers.add_column(sa.Column("slot_devices", sa.Integer(), server_default="1", nullable=False))
