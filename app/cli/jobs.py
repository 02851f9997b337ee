"""`kiln jobs`: the farm's newest jobs."""

from __future__ import annotations

from decimal import Decimal

import click
from pydantic import TypeAdapter

from app.api import models
from supervisor.domain.wording import dollars

from .options import make_client, with_json, with_server


@click.command()
@with_server
@click.option("--limit", type=click.IntRange(1, models.MAX_PAGE), default=20, show_default=True, help="How many.")
@with_json
def jobs(server: str, token: str, limit: int, as_json: bool) -> None:
    """List the newest jobs."""
    found = make_client(server, token).jobs(limit=limit)
    if as_json:
        click.echo(TypeAdapter(list[models.JobSummary]).dump_json(found, indent=1))
        return
    if not found:
        click.echo("no jobs yet; `kiln submit` makes one", err=True)
    costs = any(job.cost for job in found)  # where nothing costs anything, there is no column of zeros
    rows = [_row(job, costs=costs) for job in found]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)] if rows else []
    for row in rows:
        click.echo("  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[-1]]))


def _row(job: models.JobSummary, *, costs: bool) -> tuple[str, ...]:
    cost = (dollars(Decimal(str(job.cost))),) if costs else ()
    return (job.id, job.status.value, f"{job.frames.received}/{job.frames.total}", *cost, job.owner, job.name)
