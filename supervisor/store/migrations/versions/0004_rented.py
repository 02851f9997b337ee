"""What renting on a cloud adds: spot that is missed, launches that are asked again as they were, interruptions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("spot_missed_since", sa.String(length=32), nullable=True))
    with op.batch_alter_table("launches") as launches:
        launches.add_column(sa.Column("market", sa.String(), nullable=False, server_default="on_demand"))
        launches.add_column(sa.Column("workspace", sa.String(), nullable=False, server_default=""))
    with op.batch_alter_table("instances") as instances:
        instances.add_column(sa.Column("interruption_at", sa.String(length=32), nullable=True))
        instances.add_column(sa.Column("was_interrupted", sa.Boolean(), nullable=False, server_default=sa.false()))
        instances.add_column(sa.Column("given_back", sa.Boolean(), nullable=False, server_default=sa.false()))
