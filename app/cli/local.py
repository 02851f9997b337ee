"""What commands on the farm's own data have in common: where it is, and how it is opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from app.bootstrap import OpenFarm, open_farm
from supervisor.config import Config, load_config
from supervisor.farm import Farm
from supervisor.store.migrate import DamagedDatabase, NewerDatabase

from .failure import Failed

_F = TypeVar("_F", bound=Callable[..., Any])

DEFAULT_DATA = Path(".kiln/data")
DEFAULT_CONFIG = Path("config.toml")


def with_data(command: _F) -> _F:
    """Add --data and --config."""
    data = click.option(
        "--data",
        envvar="KILN_DATA",
        type=click.Path(path_type=Path, file_okay=False),
        default=DEFAULT_DATA,
        show_default=True,
        show_envvar=True,
        metavar="DIR",
        help="The farm's data folder.",
    )
    config = click.option(
        "--config",
        "config_file",
        envvar="KILN_CONFIG",
        type=click.Path(path_type=Path, dir_okay=False),
        show_envvar=True,
        metavar="FILE",
        help="The configuration.  [default: config.toml here, if there is one]",
    )
    return data(config(command))


def config_path(config_file: Path | None) -> Path | None:
    """The configuration's file: the one that was named, else ./config.toml. Returns: None: there is none, the defaults hold"""
    if config_file is None and DEFAULT_CONFIG.is_file():
        return DEFAULT_CONFIG
    return config_file


def read_config(config_file: Path | None) -> Config:
    """Errors: BadConfig"""
    return load_config(config_path(config_file))


def check_there_is_a_farm(data: Path) -> None:
    """Errors: click.UsageError - the folder holds no farm"""
    if not (data / "kiln.db").is_file():
        raise click.UsageError(f"there is no farm in {data}; name its folder with --data, or make one with `kiln serve`")


@contextmanager
def opened_farm(data: Path, config_file: Path | None) -> Iterator[Farm]:
    """The farm, beside the process that serves it or without one. Errors: BadConfig; Failed - it can't be opened"""
    with opened_beside(data, config_file) as opened:
        yield opened.farm


@contextmanager
def opened_beside(data: Path, config_file: Path | None) -> Iterator[OpenFarm]:
    """The farm with what belongs to it, as `opened_farm`. Errors: BadConfig; Failed - it can't be opened"""
    try:
        opened = open_farm(read_config(config_file), data, serves=False)
    except (NewerDatabase, DamagedDatabase, OSError) as error:
        raise Failed(str(error)) from error
    try:
        yield opened
    finally:
        opened.close()
