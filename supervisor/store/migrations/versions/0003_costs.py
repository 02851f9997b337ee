"""What jobs cost and how fast they were: kept by month and by kind of instance, longer than the jobs themselves."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "runs",
        sa.Column("instance_id", sa.String(), nullable=False),
        sa.Column("began_at", sa.String(length=32), nullable=False),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("price_usd_per_h", sa.String(), nullable=False),
        sa.Column("ready_at", sa.String(length=32), nullable=True),
        sa.Column("ended_at", sa.String(length=32), nullable=True),
        sa.Column("was_interrupted", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("instance_id", "began_at"),
    )
    op.create_index(op.f("ix_runs_job_id"), "runs", ["job_id"], unique=False)
    op.create_index(op.f("ix_runs_ended_at"), "runs", ["ended_at"], unique=False)
    op.create_table(
        "holdings",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("gib", sa.String(), nullable=False),
        sa.Column("usd_per_month", sa.String(), nullable=False),
        sa.Column("began_at", sa.String(length=32), nullable=False),
        sa.Column("seen_at", sa.String(length=32), nullable=False),
        sa.Column("ended_at", sa.String(length=32), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_holdings_job_id"), "holdings", ["job_id"], unique=False)
    op.create_index(op.f("ix_holdings_ended_at"), "holdings", ["ended_at"], unique=False)
    op.create_table(
        "ledger",
        sa.Column("month", sa.String(), nullable=False),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("instances_usd", sa.String(), nullable=False),
        sa.Column("preparing_usd", sa.String(), nullable=False),
        sa.Column("volumes_usd", sa.String(), nullable=False),
        sa.Column("snapshots_usd", sa.String(), nullable=False),
        sa.Column("storage_usd", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("month", "job_id"),
    )
    op.create_index("ledger_by_job", "ledger", ["job_id"], unique=False)
    op.create_table(
        "paces",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("instance_type", sa.String(), nullable=False),
        sa.Column("market", sa.String(), nullable=False),
        sa.Column("file", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("scene", sa.String(), nullable=False),
        sa.Column("engine", sa.String(), nullable=False),
        sa.Column("pixels", sa.Integer(), nullable=False),
        sa.Column("samples", sa.Integer(), nullable=True),
        sa.Column("instances", sa.Integer(), nullable=False),
        sa.Column("frames", sa.Integer(), nullable=False),
        sa.Column("render_s", sa.Float(), nullable=False),
        sa.Column("paid_s", sa.Float(), nullable=False),
        sa.Column("boots", sa.Integer(), nullable=False),
        sa.Column("boot_s", sa.Float(), nullable=False),
        sa.Column("usd", sa.String(), nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "instance_type", "market"),
    )
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("scout_frames", sa.JSON(), nullable=False, server_default="[]"))
    # when their nodes first spoke is not known any more
    op.execute(
        "INSERT INTO runs (instance_id, began_at, job_id, price_usd_per_h, ready_at, ended_at, was_interrupted)"
        " SELECT id, launched_at, job_id, price_usd_per_h, NULL, ended_at, 0 FROM instances"
    )
