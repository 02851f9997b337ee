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
from supervisor.farm import Farm
from supervisor.lifecycle.sweep import sweep_report
from supervisor.store.care import damage_of

from .failure import Failed
from .local import check_there_is_a_farm, config_path, opened_farm, read_config, with_data
from .options import with_json

#: What the cloud says of the object store only holds while the farm is served.
_NEEDS_A_SERVER = frozenset({"object store"})


@click.command()
@with_data
@with_json
def doctor(data: Path, config_file: Path | None, as_json: bool) -> None:
    """Look for what is wrong with the farm, and say what to do. Exits with 1 if something is."""
    checks = list(_checks(data, config_file))
    if as_json:
        click.echo(json.dumps([asdict(check) for check in checks], indent=1))
    else:
        for check in checks:
            mark = click.style("ok   ", fg="green") if check.is_ok else click.style("WRONG", fg="red")
            click.echo(f"{mark}  {check.name}: {check.text}" + (f"\n       {check.remedy}" if check.remedy else ""))
    if not all(check.is_ok for check in checks):
        raise click.exceptions.Exit(1)


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
        yield from _checks_of_farm(farm)


def _checks_of_farm(farm: Farm) -> Iterator[Check]:
    served = is_served(farm.data)
    yield _check_supervisor(farm) if served else Check(name="server", is_ok=True, text="the farm is not being served")
    for check in farm.cloud.premises.checks():
        if served or check.name not in _NEEDS_A_SERVER:
            yield check


def _check_supervisor(farm: Farm) -> Check:
    health = queries.health(farm)
    if health.is_alive:
        return Check(name="server", is_ok=True, text=f"the farm is being served; its last tick was {health.last_tick_s or 0:.1f} s ago")
    return Check(
        name="server", is_ok=False, text="the farm is being served, but its supervisor has stopped", remedy="restart it; see its log"
    )


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@with_data
@with_json
def sweep(dry_run: bool, data: Path, config_file: Path | None, as_json: bool) -> None:
    """Give back what bears the farm's mark and no job owns: instances, workspaces, uploads. The farm does it by itself every minute."""
    check_there_is_a_farm(data)
    with opened_farm(data, config_file) as farm:
        if not is_served(farm.data):
            raise Failed("the farm is not being served, and without it its object store does not answer; start it first")
        found = sweep_report(farm, dry_run=dry_run)
    if as_json:
        click.echo(json.dumps({"dry_run": dry_run, "swept": [asdict(thing) for thing in found]}, indent=1))
        return
    for thing in found:
        click.echo(f"{'would give back' if dry_run else 'gave back'} {thing.id}: {thing.what}")
    if not found:
        click.echo("nothing lies around", err=True)
