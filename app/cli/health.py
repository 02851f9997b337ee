"""`kiln doctor` and `kiln sweep`: what is wrong with a farm, and what lies around that no job owns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from app.bootstrap import is_served
from supervisor import queries
from supervisor.cloud.ports import Check
from supervisor.config import BadConfig
from supervisor.lifecycle.sweep import sweep_report
from supervisor.store.care import damage_of

from .failure import Failed
from .local import check_there_is_a_farm, config_path, opened_farm, read_config, with_data
from .options import with_json


@click.command()
@with_data
@with_json
def doctor(data: Path, config_file: Path | None, as_json: bool) -> None:
    """Look for what is wrong with the farm, and say what to do. Exits with 1 if something is that keeps it from working."""
    checks = list(_checks(data, config_file))
    if as_json:
        click.echo(json.dumps([asdict(check) for check in checks], indent=1))
    else:
        for check in checks:
            click.echo(f"{_mark(check)}  {check.name}: {check.text}" + (f"\n       {check.remedy}" if check.remedy else ""))
    if not all(check.is_ok or check.is_warning for check in checks):
        raise click.exceptions.Exit(1)


def _mark(check: Check) -> str:
    if check.is_ok:
        return click.style("ok   ", fg="green")
    return click.style("WARN ", fg="yellow") if check.is_warning else click.style("WRONG", fg="red")


def _checks(data: Path, config_file: Path | None) -> Iterator[Check]:
    try:
        read_config(config_file)
    except BadConfig as error:
        yield Check(name="configuration", is_ok=False, text=str(error), remedy="mend the keys named")
        return
    yield Check(name="configuration", is_ok=True, text=f"{config_path(config_file) or 'the defaults'} can be used")
    if not (data / "kiln.db").is_file():
        yield Check(name="data folder", is_ok=False, text=f"there is no farm in {data}", remedy="name its folder, or run `kiln serve`")
        return
    damage = damage_of(data / "kiln.db")
    if damage:
        yield Check(name="database", is_ok=False, text=damage, remedy="stop the farm and put back a backup with `kiln restore`")
        return
    yield Check(name="database", is_ok=True, text=f"{data / 'kiln.db'} is whole")
    with opened_farm(data, config_file) as farm:
        yield from queries.farm_checks(farm, is_served=is_served(farm.data))


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@with_data
@with_json
def sweep(dry_run: bool, data: Path, config_file: Path | None, as_json: bool) -> None:
    """Give back what bears the farm's mark and no job owns: instances, workspaces, uploads. The farm does it by itself every minute.

    On AWS it needs no farm that is served: it is for the day on which that does not start, too.
    """
    check_there_is_a_farm(data)
    with opened_farm(data, config_file) as farm:
        if farm.config.cloud.provider == "local" and not is_served(farm.data):
            raise Failed("the farm is not being served, and without it its object store does not answer; start it first")
        found = sweep_report(farm, dry_run=dry_run)
    if as_json:
        click.echo(json.dumps({"dry_run": dry_run, "swept": [asdict(thing) for thing in found]}, indent=1))
        return
    for thing in found:
        click.echo(f"{'would give back' if dry_run else 'gave back'} {thing.id}: {thing.what}")
    if not found:
        click.echo("nothing lies around", err=True)
