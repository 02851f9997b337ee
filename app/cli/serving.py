"""`kiln serve`: run the farm."""

from __future__ import annotations

from pathlib import Path

import click

from app.bootstrap import AlreadyServed
from app.serve import CantListen
from app.serve import serve as run
from supervisor.store.migrate import DamagedDatabase, NewerDatabase

from .failure import Failed
from .local import read_config, with_data


@click.command()
@with_data
@click.option("--host", metavar="H", help="Address to listen on; 0.0.0.0: every one.  [default: [server] host]")
@click.option("--port", type=click.IntRange(0, 65535), metavar="P", help="TCP port; 0: any that is free.  [default: [server] port]")
def serve(data: Path, config_file: Path | None, host: str | None, port: int | None) -> None:
    """Serve the farm until Ctrl-C or SIGTERM."""
    try:
        run(read_config(config_file), data, host=host, port=port)
    except (AlreadyServed, CantListen, NewerDatabase, DamagedDatabase, OSError) as error:
        raise Failed(str(error)) from error
