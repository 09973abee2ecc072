"""Where the content of a teacher or a dataset is imported from.

Revision: 0013, after 0012.
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Add a column to `teachers` and to `datasets`."""
    for table in ("teachers", "datasets"):
        with op.batch_alter_table(table) as rows:
            rows.add_column(sa.Column("source", sa.String(), nullable=True))
