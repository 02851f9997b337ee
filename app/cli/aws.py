"""`kiln aws setup`, `teardown` and `policy`: what the farm needs in its AWS account."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from supervisor.cloud.ports import Removal, RemovalState, SetupStep, StepState
from supervisor.commands import cloud_account

from .failure import Failed
from .local import opened_farm, with_data
from .options import with_json

#: Without white space, in one managed policy.
_MOST_CHARACTERS = 6144
_MARKS = {
    StepState.READY: ("ready   ", "green"),
    StepState.ABSENT: ("make    ", "cyan"),
    StepState.DIFFERS: ("change  ", "yellow"),
    StepState.BLOCKED: ("BLOCKED ", "red"),
}


@click.group()
def aws() -> None:
    """The AWS account that the farm rents in."""


@aws.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be made or changed.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@with_data
@with_json
def setup(dry_run: bool, yes: bool, data: Path, config_file: Path | None, as_json: bool) -> None:
    """Make what the farm needs in the account: buckets, a role for its instances, a security group, a launch template.

    None of it costs anything by itself. It can be repeated at any time; what is there stays.
    """
    with opened_farm(data, config_file) as farm:
        account = cloud_account.account_of(farm)
        planned = account.plan()
        if dry_run or all(step.state is StepState.READY for step in planned):
            _tell(planned, dry_run=dry_run, as_json=as_json)
            return
        if not as_json:
            _print(planned)
        _ask("Make and change these?", yes=yes)
        done = []
        for step in account.set_up():
            done.append(step)
            if not as_json:
                _print([step])
        if as_json:
            _tell(done, dry_run=False, as_json=True)
    if any(step.state is StepState.BLOCKED for step in done):
        raise Failed("not everything could be made: do what is said above, then repeat this")


def _tell(steps: Sequence[SetupStep], *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"dry_run": dry_run, "steps": [asdict(step) for step in steps]}, indent=1))
        return
    _print(steps)
    if all(step.state is StepState.READY for step in steps):
        click.echo("everything is there", err=True)


def _print(steps: Sequence[SetupStep]) -> None:
    for step in steps:
        mark, color = _MARKS[step.state]
        click.echo(f"{click.style(mark, fg=color)} {step.name}: {step.text}")


@aws.command()
@click.option("--with-data", is_flag=True, help="Delete the buckets too, with every project and frame in them.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@with_data
@with_json
def teardown(with_data: bool, dry_run: bool, yes: bool, data: Path, config_file: Path | None, as_json: bool) -> None:
    """Remove from the account what `kiln aws setup` made there, and say what stays.

    Refused while something of the farm is rented, or a job has not ended.
    """
    with opened_farm(data, config_file) as farm:
        planned = list(cloud_account.tear_down(farm, with_data=with_data, dry_run=True))
        if not dry_run and any(thing.state is RemovalState.REMOVED for thing in planned):
            if not as_json:
                _print_removals(planned, going=True)
            _ask("Remove these for good?", yes=yes)
            planned = list(cloud_account.tear_down(farm, with_data=with_data, dry_run=False))
    if as_json:
        click.echo(json.dumps({"dry_run": dry_run, "things": [asdict(thing) for thing in planned]}, indent=1))
        return
    _print_removals(planned, going=dry_run)


def _print_removals(things: Sequence[Removal], *, going: bool) -> None:
    for thing in things:
        is_kept = thing.state is RemovalState.STAYS
        mark = click.style("stays   ", fg="yellow") if is_kept else click.style("remove  " if going else "removed ", fg="red")
        click.echo(f"{mark} {thing.name}" + (f": {thing.text}" if thing.text else ""))


def _ask(question: str, *, yes: bool) -> None:
    """Errors: Failed - nobody is there to ask; click.Abort"""
    if yes:
        return
    if not sys.stdin.isatty():
        raise Failed("nothing was changed: nobody is here to be asked; look at what --dry-run says, then use --yes")
    click.confirm(question, abort=True, err=True)


@aws.command()
@click.option("--part", type=click.Choice(["run", "setup", "build", "pool", "fill"]), help="What that takes alone.")
@with_data
@with_json
def policy(part: str | None, data: Path, config_file: Path | None, as_json: bool) -> None:
    """Print the least IAM policy that the farm's keys need. It asks AWS nothing, so it works before there are keys.

    --part: what it takes to run the farm, to set it up (and take it down), to build images, to have a pool that jobs share,
    to fill volumes on the EC2 instance that the farm itself runs on.
    """
    with opened_farm(data, config_file) as farm:
        found = cloud_account.account_of(farm).policy(part=part or "")
    click.echo(json.dumps(found, indent=None if as_json else 1))
    length = len(json.dumps(found, separators=(",", ":")))
    if length > _MOST_CHARACTERS:
        said = f"this is {length} characters, and IAM takes {_MOST_CHARACTERS} in one managed policy: make several, each with a --part"
        click.echo(said, err=True)
