"""`kiln backup`: everything of a farm in one archive, taken while it runs."""

from __future__ import annotations

import io
import json
import os
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import click

from app.bootstrap import is_served
from nodeimage.protocol import AGENT_PREFIX, INBOX_PREFIX, NODES_PREFIX
from supervisor.cloud.ports import Listed, ObjectStore
from supervisor.store.care import copy_database

from .local import check_there_is_a_farm, config_path, opened_farm, with_data
from .options import with_json
from .progress import size_text

FORMAT = 1
MANIFEST, DATABASE, CONFIG, OBJECTS = "manifest.json", "kiln.db", "config.toml", "objects/"
#: Who the farm is on AWS: with another id it would find neither its buckets nor what it rents.
FARM_ID = "farm.json"
#: What belongs to the database: secrets (who has them can read and change everything), and the farm's id. Keys for AWS are typed anew.
PRIVATE = ("secrets.json", "store/keys.json", FARM_ID)
PREFIXES = ("projects/", "received/", AGENT_PREFIX, INBOX_PREFIX)
#: Up to this size an object may be rewritten at any time, and is read in one go.
_SMALL_BYTES = 1 << 20


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
        _add_bytes(archive, MANIFEST, _manifest(with_objects))
        _add_data(archive, data, config_path(config_file))
        if with_objects:
            with opened_farm(data, config_file) as farm:
                _add_objects(archive, farm.cloud.objects)
    length = file.stat().st_size
    click.echo(json.dumps({"file": str(file), "bytes": length}) if as_json else f"wrote {file} ({size_text(length)})")


def _manifest(with_objects: bool) -> bytes:
    return json.dumps(
        {"format": FORMAT, "kiln": version("kiln"), "made_at": datetime.now(UTC).isoformat(), "objects": with_objects}
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
        copy = Path(folder, DATABASE)
        copy_database(data / DATABASE, copy)
        archive.add(copy, DATABASE)
    for name in PRIVATE:
        if (data / name).is_file():
            archive.add(data / name, name)
    if config:
        archive.add(config, CONFIG)


def _add_objects(archive: tarfile.TarFile, objects: ObjectStore) -> None:
    for prefix in PREFIXES:
        for listed in objects.list(prefix):
            if not listed.key.startswith(NODES_PREFIX):  # heartbeats of nodes that will be gone
                _add_object(archive, objects, listed)


def _add_object(archive: tarfile.TarFile, objects: ObjectStore, listed: Listed) -> None:
    if listed.bytes <= _SMALL_BYTES:
        stored = objects.get(listed.key)
        if stored:
            _add_bytes(archive, OBJECTS + listed.key, stored.body)
        return
    with suppress(FileNotFoundError), objects.open(listed.key) as source:  # deleted since it was listed
        info = tarfile.TarInfo(OBJECTS + listed.key)
        info.size, info.mode = listed.bytes, 0o600
        archive.addfile(info, source)


def _add_bytes(archive: tarfile.TarFile, name: str, body: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(body), 0o600
    archive.addfile(info, io.BytesIO(body))
