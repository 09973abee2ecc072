"""Keys that expire and rotate, and when they were last used.

Revision: 0008, after 0006.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0006"


def upgrade() -> None:
    """Add columns to `api_keys`."""
    with op.batch_alter_table("api_keys") as keys:
        keys.add_column(sa.Column("previous_sha256", sa.String(64)))
        keys.create_unique_constraint(op.f("uq_api_keys_previous_sha256"), ["previous_sha256"])
        keys.add_column(sa.Column("previous_until", sa.Double()))
        keys.add_column(sa.Column("expires_at", sa.Double()))
        keys.add_column(sa.Column("last_used_at", sa.Double()))
