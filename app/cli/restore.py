"""`kiln restore`: a farm's data folder out of what `kiln backup` wrote."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import click

from app.bootstrap import AlreadyServed, running_store
from supervisor.cloud.ports import ObjectStore
from supervisor.config import Config
from supervisor.store.care import NoDatabase, damage_of

from .backup import CONFIG, DATABASE, FARM_ID, FORMAT, MANIFEST, OBJECTS, PREFIXES, PRIVATE
from .failure import Failed
from .local import read_config, with_data
from .options import with_json

_RESTORED_CONFIG = "restored-config.toml"


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@with_data
@with_json
def restore(file: Path, data: Path, config_file: Path | None, as_json: bool) -> None:
    """Make the data folder of a farm out of FILE, which `kiln backup` wrote. The folder must be empty or not be there."""
    if data.is_dir() and any(data.iterdir()):
        raise click.UsageError(f"{data} is not empty; name another folder with --data, or move away what is in it")
    try:
        count = _restore(file, data, read_config(config_file))
    except (tarfile.TarError, AlreadyServed, NoDatabase, EOFError, OSError, ValueError) as error:
        raise Failed(f"{file} can't be put back: {error}") from error
    if (data / FARM_ID).is_file():
        click.echo(
            "on AWS it is the same farm as the one that was backed up: never serve both, each would give back what the other rents",
            err=True,
        )
    has_config = (data / _RESTORED_CONFIG).is_file()
    if as_json:
        click.echo(json.dumps({"data": str(data), "objects": count, "config": str(data / _RESTORED_CONFIG) if has_config else None}))
        return
    click.echo(f"restored into {data}" + (f", with {count} objects" if count else ""))
    if has_config:
        click.echo(f"its configuration is in {data / _RESTORED_CONFIG}: compare it with yours, or serve with --config", err=True)


def _restore(file: Path, data: Path, config: Config) -> int:
    """Returns: how many objects were put into the store. Errors: Failed; then the folder is as empty as it was"""
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with tarfile.open(file, "r|gz") as archive, ExitStack() as parts:
            return _take_in(archive, data, config, parts)
    except BaseException:
        for path in data.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise


def _take_in(archive: tarfile.TarFile, data: Path, config: Config, parts: ExitStack) -> int:
    members = iter(archive)
    _check_manifest(archive, next(members, None))
    objects: ObjectStore | None = None
    count = 0
    for member in members:
        if not member.isfile():
            raise Failed(f"{member.name} in the archive is no file; it was not made by `kiln backup`")
        source = cast("IO[bytes]", archive.extractfile(member))
        if not member.name.startswith(OBJECTS):
            _take_file(member.name, source, data)
            continue
        key = _object_key(member.name)
        objects = objects or parts.enter_context(running_store(config, data))
        objects.put_stream(key, cast("BinaryIO", source))
        count += 1
    if damage := damage_of(data / DATABASE):
        raise Failed(f"the database in the archive is damaged: {damage}")
    return count


def _check_manifest(archive: tarfile.TarFile, member: tarfile.TarInfo | None) -> None:
    source = archive.extractfile(member) if member and member.name == MANIFEST else None
    if source is None:
        raise Failed("the archive was not made by `kiln backup`")
    manifest: Any = json.loads(source.read(10_000))
    if manifest.get("format") != FORMAT:
        raise Failed(f"the archive was made by Kiln {manifest.get('kiln')}, in a form that this one does not know; use that one")


def _take_file(name: str, source: IO[bytes], data: Path) -> None:
    places = {DATABASE: DATABASE, CONFIG: _RESTORED_CONFIG} | {private: private for private in PRIVATE}
    if name not in places:
        raise Failed(f"there is an unknown file {name} in the archive; it was not made by `kiln backup`, or by a newer one")
    target = data / places[name]
    target.parent.mkdir(exist_ok=True, mode=0o700)
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        shutil.copyfileobj(source, out)


def _object_key(name: str) -> str:
    key = name.removeprefix(OBJECTS)
    if not key.startswith(PREFIXES) or ".." in key.split("/"):
        raise Failed(f"there is an unknown object {key} in the archive")
    return key
