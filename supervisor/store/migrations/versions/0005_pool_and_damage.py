"""A shared pool of instances, what is known of damaged frames, and indexes for what is asked often of many frames and files."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    with op.batch_alter_table("instances") as instances:
        instances.add_column(sa.Column("works_for", sa.String(), nullable=False, server_default=""))
        instances.alter_column("job_id", existing_type=sa.String(), nullable=True)
    op.create_index(op.f("ix_instances_works_for"), "instances", ["works_for"], unique=False)
    with op.batch_alter_table("runs") as runs:
        runs.alter_column("job_id", existing_type=sa.String(), nullable=True)
        runs.add_column(sa.Column("is_part", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("frames", sa.Column("damage", sa.Text(), nullable=False, server_default=""))
    op.create_index("frames_damaged", "frames", ["job_id", "number"], unique=False, sqlite_where=sa.text("damage != ''"))
    op.create_index("frames_to_free", "frames", ["job_id"], unique=False, sqlite_where=sa.text("frees_claim IS 1"))
    op.create_index("frames_by_time", "frames", ["job_id", "received_at"], unique=False)
    op.create_index("files_by_status", "files", ["status", "checksum"], unique=False)
