"""Uploads in parts, and the row that guards the removal of blobs.

Revision: 0012, after 0011.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Create the tables `uploads` and `upload_parts`; let teachers and datasets be made of an upload."""
    op.create_table(
        "uploads",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("project_id", sa.String(40), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("part_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(64)),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.CheckConstraint("state IN ('open', 'complete')", name=op.f("ck_uploads_state_known")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_uploads_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_uploads")),
    )
    for columns in (["project_id", "created_at", "id"], ["project_id", "sha256"], ["expires_at"]):
        op.create_index(op.f(f"ix_uploads_{'_'.join(columns)}"), "uploads", columns)
    op.create_table(
        "upload_parts",
        sa.Column("upload_id", sa.String(40), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("blob_key", sa.String(512), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["upload_id"], ["uploads.id"], name=op.f("fk_upload_parts_upload_id")),
        sa.PrimaryKeyConstraint("upload_id", "number", name=op.f("pk_upload_parts")),
    )
    sweeps = sa.table("sweeps", sa.column("name"), sa.column("swept_at", sa.Double()))
    op.bulk_insert(sweeps, [{"name": "blobs", "swept_at": 0.0}])
    for kind in ("teachers", "datasets"):
        with op.batch_alter_table(kind) as table:
            table.add_column(sa.Column("upload_id", sa.String(40)))
            table.create_index(op.f(f"ix_{kind}_upload_id"), ["upload_id"])
