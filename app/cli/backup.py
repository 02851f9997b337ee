"""`kiln backup` and `kiln restore`: everything of a farm in one archive, taken while it runs."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import click

from app.bootstrap import hold_lock, is_served, open_farm, stop_everything
from nodeimage.protocol import AGENT_PREFIX, INBOX_PREFIX, NODES_PREFIX
from supervisor.cloud.ports import Listed, ObjectStore
from supervisor.config import Config
from supervisor.store.care import copy_database, damage_of

from .local import check_there_is_a_farm, config_path, opened_farm, read_config, with_data
from .options import with_json
from .progress import size_text

_FORMAT = 1
_MANIFEST, _DATABASE, _CONFIG, _OBJECTS = "manifest.json", "kiln.db", "config.toml", "objects/"
#: Secrets beside the database: who has them can read and change everything.
_PRIVATE = ("secrets.json", "store/keys.json")
_RESTORED_CONFIG = "restored-config.toml"
_PREFIXES = ("projects/", "received/", AGENT_PREFIX, INBOX_PREFIX)
#: Up to this size an object may be rewritten at any time, and is read in one go.
_SMALL_BYTES = 1 << 20


class BadBackup(Exception):
    """The archive can't be made, or can't be put back; the message says why."""


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--with-objects", is_flag=True, help="Uploaded files, frames and logs too; the farm must be served.")
@with_data
@with_json
def backup(file: Path, with_objects: bool, data: Path, config_file: Path | None, as_json: bool) -> None:
    """Write users, tokens, jobs, secrets and configuration into FILE (.tar.gz), while the farm runs.

    Uploaded files and rendered frames are in it only with --with-objects. Keep FILE safe: who has it can sign in as anybody.
    """
    check_there_is_a_farm(data)
    if with_objects and not is_served(data):
        raise click.UsageError("the objects can be copied only while the farm is served; start it, or leave --with-objects out")
    if file.exists():
        raise click.UsageError(f"there is already a file {file}; name another one")
    with _new_archive(file) as archive:
        _add_bytes(archive, _MANIFEST, _manifest(with_objects))
        _add_data(archive, data, config_path(config_file))
        if with_objects:
            with opened_farm(data, config_file) as farm:
                _add_objects(archive, farm.cloud.objects)
    length = file.stat().st_size
    click.echo(json.dumps({"file": str(file), "bytes": length}) if as_json else f"wrote {file} ({size_text(length)})")


def _manifest(with_objects: bool) -> bytes:
    return json.dumps(
        {"format": _FORMAT, "kiln": version("kiln"), "made_at": datetime.now(UTC).isoformat(), "objects": with_objects}
    ).encode()


@contextmanager
def _new_archive(file: Path) -> Iterator[tarfile.TarFile]:
    """An archive that stands at `file` when it is whole, and nothing if it fails."""
    draft = file.with_name(f"{file.name}.part")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
            # level 1: frames are compressed already
            with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as archive:
                yield archive
            out.flush()
            os.fsync(out.fileno())
        draft.rename(file)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _add_data(archive: tarfile.TarFile, data: Path, config: Path | None) -> None:
    with tempfile.TemporaryDirectory(prefix="kiln-backup-") as folder:
        copy = Path(folder, _DATABASE)
        copy_database(data / _DATABASE, copy)
        archive.add(copy, _DATABASE)
    for name in _PRIVATE:
        if (data / name).is_file():
            archive.add(data / name, name)
    if config:
        archive.add(config, _CONFIG)


def _add_objects(archive: tarfile.TarFile, objects: ObjectStore) -> None:
    for prefix in _PREFIXES:
        for listed in objects.list(prefix):
            if not listed.key.startswith(NODES_PREFIX):  # heartbeats of nodes that will be gone
                _add_object(archive, objects, listed)


def _add_object(archive: tarfile.TarFile, objects: ObjectStore, listed: Listed) -> None:
    if listed.bytes <= _SMALL_BYTES:
        stored = objects.get(listed.key)
        if stored:
            _add_bytes(archive, _OBJECTS + listed.key, stored.body)
        return
    with suppress(FileNotFoundError), objects.open(listed.key) as source:  # deleted since it was listed
        info = tarfile.TarInfo(_OBJECTS + listed.key)
        info.size, info.mode = listed.bytes, 0o600
        archive.addfile(info, source)


def _add_bytes(archive: tarfile.TarFile, name: str, body: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(body), 0o600
    archive.addfile(info, io.BytesIO(body))


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
    except (tarfile.TarError, EOFError, OSError) as error:
        raise BadBackup(f"{file} can't be put back: {error}") from error
    has_config = (data / _RESTORED_CONFIG).is_file()
    if as_json:
        click.echo(json.dumps({"data": str(data), "objects": count, "config": str(data / _RESTORED_CONFIG) if has_config else None}))
        return
    click.echo(f"restored into {data}" + (f", with {count} objects" if count else ""))
    if has_config:
        click.echo(f"its configuration is in {data / _RESTORED_CONFIG}: compare it with yours, or serve with --config", err=True)


def _restore(file: Path, data: Path, config: Config) -> int:
    """Returns: how many objects were put into the store. Errors: BadBackup; then the folder is as empty as it was"""
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
            raise BadBackup(f"{member.name} in the archive is no file; it was not made by `kiln backup`")
        source = cast("IO[bytes]", archive.extractfile(member))
        if not member.name.startswith(_OBJECTS):
            _take_file(member.name, source, data)
            continue
        objects = objects or parts.enter_context(_running_store(config, data))
        objects.put_stream(_object_key(member.name), cast("BinaryIO", source))
        count += 1
    if damage := damage_of(data / _DATABASE):
        raise BadBackup(f"the database in the archive is damaged: {damage}")
    return count


def _check_manifest(archive: tarfile.TarFile, member: tarfile.TarInfo | None) -> None:
    source = archive.extractfile(member) if member and member.name == _MANIFEST else None
    if source is None:
        raise BadBackup("the archive was not made by `kiln backup`")
    manifest: Any = json.loads(source.read(10_000))
    if manifest.get("format") != _FORMAT:
        raise BadBackup(f"the archive was made by Kiln {manifest.get('kiln')}, in a form that this one does not know; use that one")


def _take_file(name: str, source: IO[bytes], data: Path) -> None:
    places = {_DATABASE: _DATABASE, _CONFIG: _RESTORED_CONFIG} | {private: private for private in _PRIVATE}
    if name not in places:
        raise BadBackup(f"there is an unknown file {name} in the archive; it was not made by `kiln backup`, or by a newer one")
    target = data / places[name]
    target.parent.mkdir(exist_ok=True, mode=0o700)
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        shutil.copyfileobj(source, out)


def _object_key(name: str) -> str:
    key = name.removeprefix(_OBJECTS)
    if not key.startswith(_PREFIXES) or ".." in key.split("/"):
        raise BadBackup(f"there is an unknown object {key} in the archive")
    return key


@contextmanager
def _running_store(config: Config, data: Path) -> Iterator[ObjectStore]:
    """The farm's object store, started for the time being."""
    with hold_lock(data):
        opened = open_farm(config, data, serves=True)
        try:
            yield opened.farm.cloud.objects
        finally:
            opened.close()
            stop_everything(config, data)
