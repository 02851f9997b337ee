"""Downloads are made of the stored outputs as they are fetched: what is in each is kept, and no zip."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "download_indexes",
        sa.Column("download_id", sa.String(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["download_id"], ["downloads.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("download_id"),
    )
    with op.batch_alter_table("deletions") as deletions:
        deletions.drop_column("downloads")
    # Their zips were files, which are no longer served.
    op.execute("DELETE FROM downloads WHERE status = 'ready'")
