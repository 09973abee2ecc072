"""The audit log.

Revision: 0014, after 0013.
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Create the table `audit_entries`."""
    op.create_table(
        "audit_entries",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("project_id", sa.String(40)),
        sa.Column("key_id", sa.String(40)),
        sa.Column("key_name", sa.String()),
        sa.Column("operation", sa.String(64), nullable=False),
        sa.Column("object_id", sa.String(64)),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("address", sa.String(64)),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_entries")),
    )
    for columns in (["project_id", "time", "id"], ["project_id", "object_id", "time", "id"], ["time"]):
        op.create_index(op.f(f"ix_audit_entries_{'_'.join(columns)}"), "audit_entries", columns)
