"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from .client import Client

_F = TypeVar("_F", bound=Callable[..., Any])


def with_json(command: _F) -> _F:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def with_server(command: _F) -> _F:
    """Add --server and --token."""
    server = click.option(
        "--server",
        envvar="KILN_SERVER",
        default="http://127.0.0.1:8000",
        show_default=True,
        show_envvar=True,
        metavar="URL",
        help="The farm.",
    )
    token = click.option(
        "--token", envvar="KILN_TOKEN", default="", show_envvar=True, metavar="T", help="A token; `kiln token create USER` makes one."
    )
    return server(token(command))


def make_client(server: str, token: str) -> Client:
    """Errors: click.UsageError - no token, or a server that is no URL"""
    if not server.startswith(("http://", "https://")):
        raise click.UsageError(f"--server {server} is not a URL; write it like http://farm.example:8000")
    if not token:
        raise click.UsageError("a token is needed: make one on the farm with `kiln token create USER`, then give --token or set KILN_TOKEN")
    return Client(server, token)
