"""`kiln jobs`: the farm's newest jobs."""

from __future__ import annotations

import click
from pydantic import TypeAdapter

from app.api import models

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
    rows = [(job.id, job.status.value, f"{job.frames.received}/{job.frames.total}", job.owner, job.name) for job in found]
    widths = [max(len(row[column]) for row in rows) for column in range(4)] if rows else []
    for row in rows:
        click.echo("  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[4]]))
