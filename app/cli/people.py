"""`kiln user add`, `kiln user password` and `kiln token create`: who may use the farm."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Literal, cast

import click

from supervisor.commands import accounts
from supervisor.domain.account import ROLES, fold_name

from .failure import Failed
from .local import check_there_is_a_farm, opened_farm, with_data
from .options import with_json


@click.group()
def user() -> None:
    """People who may sign in."""


@user.command("add")
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), help="[default: admin for the first user, else artist]")
@with_data
@with_json
def add_user(name: str, role: str | None, data: Path, config_file: Path | None, as_json: bool) -> None:
    """Add user NAME. The password is asked for, or read from standard input where that is no terminal."""
    with opened_farm(data, config_file) as farm:
        if fold_name(name) in {each.name for each in accounts.users(farm)}:
            raise Failed(f"there is a user “{fold_name(name)}” already; `kiln user password {fold_name(name)}` gives them a new password")
        chosen = role or ("artist" if accounts.has_users(farm) else "admin")
        made = accounts.add_user(farm, name=name, password=_password(), role=cast("Literal['admin', 'artist']", chosen))
    click.echo(json.dumps({"id": made.id, "name": made.name, "role": made.role}) if as_json else f"added {made.name} ({made.role})")


@user.command("password")
@click.argument("name")
@with_data
@with_json
def set_password(name: str, data: Path, config_file: Path | None, as_json: bool) -> None:
    """Give user NAME a new password, and sign them out everywhere. Their tokens go on working.

    The password is asked for, or read from standard input where that is no terminal.
    """
    check_there_is_a_farm(data)
    with opened_farm(data, config_file) as farm:
        person = accounts.user_named(farm, name)
        accounts.set_password(farm, person.id, new=_password())
    click.echo(json.dumps({"id": person.id, "name": person.name}) if as_json else f"{person.name} has a new password")


def _password() -> str:
    if sys.stdin.isatty():
        typed: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        return typed
    password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise click.UsageError("no password on standard input")
    return password


@click.group()
def token() -> None:
    """Tokens for programs."""


@token.command("create")
@click.argument("user")
@click.option("--name", default="", help="What it is for, as the account page shows it.")
@with_data
@with_json
def create_token(user: str, name: str, data: Path, config_file: Path | None, as_json: bool) -> None:
    """Make a token for USER, and print it. The farm keeps no copy: it can't be shown again."""
    check_there_is_a_farm(data)
    with opened_farm(data, config_file) as farm:
        made = accounts.create_token(farm, user_name=user, name=name)
    click.echo(json.dumps({"token": made}) if as_json else made)
