"""Unpack an uploaded zip into its job: every file or none."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import BinaryIO, cast
from zipfile import ZipFile

import structlog

from nodeimage.protocol import project_key
from supervisor.domain.file import FileStatus, is_zip
from supervisor.domain.ids import new_id
from supervisor.farm import Farm
from supervisor.inspection.plain import NotUsable
from supervisor.inspection.seekable import ObjectGone, SeekableObject
from supervisor.inspection.stream import checksum_text
from supervisor.inspection.zips import Entry, ZipLimits, entries_of, open_entry, opened_zip
from supervisor.room import check_room
from supervisor.store import files as store
from supervisor.store.files import FileRow

log = structlog.get_logger(__name__)

#: Room in memory for the index of a zip, for each file that it may have.
_INDEX_BYTES_A_FILE = 512
_INDEX_BYTES = 1 << 20


class _Gone(Exception):
    """The zip was removed while it was being unpacked."""


def unpack_zip(farm: Farm, file: FileRow, *, go_on: Callable[[], bool]) -> None:
    """Put the zip's files into the job in its place, .blends to be inspected; or make it BAD and leave nothing of it.

    Repeat:  safe; goes on where it was left
    Errors:  CloudError, OutOfSpace - what is unpacked stays, the next time goes on
    """
    index_bytes = _INDEX_BYTES + farm.config.uploads.max_files * _INDEX_BYTES_A_FILE
    source = SeekableObject(farm.cloud.objects, file.key, length=file.bytes, max_read_bytes=index_bytes)
    try:
        with closing(source), opened_zip(cast("BinaryIO", source)) as archive:
            is_done = _unpack_all(farm, file, archive, go_on=go_on)
    except NotUsable as error:
        _undo(farm, file, str(error))
        return
    except ObjectGone:
        _undo(farm, file, "its content is gone from the store; upload it again")
        return
    except _Gone:
        _remove_unpacked(farm, file)
        return
    if is_done:
        with farm.db.write() as connection:
            is_ours = store.end_unpacking(connection, file)
        if is_ours:
            farm.cloud.objects.delete([file.key])
            log.info("zip unpacked", job=file.job, file=file.id, path=file.path)


def _unpack_all(farm: Farm, file: FileRow, archive: ZipFile, *, go_on: Callable[[], bool]) -> bool:
    """Returns: False if `go_on` said no before the end"""
    with farm.db.read() as connection:
        there = {row.path: row for row in store.files_of(connection, file.job)}
    others = [row for row in there.values() if row.zip_id != file.id and row.id != file.id]
    entries = entries_of(archive, zip_bytes=file.bytes, limits=_limits(farm, others))
    waiting = [entry for entry in entries if not _is_there(entry, there.get(entry.path), file)]
    check_room(farm, sum(entry.bytes for entry in waiting), what=f"unpacking “{file.path}”")
    for entry in waiting:
        if not go_on():
            return False
        _unpack_one(farm, file, archive, entry)
    return True


def _limits(farm: Farm, others: list[FileRow]) -> ZipLimits:
    limits = farm.config.uploads
    return ZipLimits(
        files=limits.max_files - len(others),
        bytes=int(limits.max_job_gib * (1 << 30)) - sum(row.bytes for row in others),
        file_bytes=int(limits.max_file_gib * (1 << 30)),
        ratio=limits.max_zip_ratio,
    )


def _is_there(entry: Entry, row: FileRow | None, file: FileRow) -> bool:
    """Say whether the job has this very file already: unpacked before, or uploaded beside the zip."""
    if row is None:
        return False
    is_same = (row.bytes, row.checksum) == (entry.bytes, checksum_text(entry.crc32))
    return row.zip_id == file.id or (row.status is FileStatus.READY and is_same)


def _unpack_one(farm: Farm, file: FileRow, archive: ZipFile, entry: Entry) -> None:
    key, now = project_key(file.job, entry.path), farm.now()
    made = FileRow(
        id=new_id("file"),
        job=file.job,
        path=entry.path,
        bytes=entry.bytes,
        modified_ms=None,
        checksum=checksum_text(entry.crc32),
        status=FileStatus.CHECKING,
        problem="",
        key=key,
        upload_id=None,
        zip_id=file.id,
        part_bytes=0,
        inspection=None,
        created_at=now,
        touched_at=now,
    )
    with farm.db.read() as connection:
        _check_free(store.standing(connection, file.job, entry.path), entry)
    with open_entry(archive, entry) as content:
        farm.cloud.objects.put_stream(key, content)
    with farm.db.write() as connection:
        is_ours = store.is_checking(connection, file)
        if is_ours:
            _check_free(store.standing(connection, file.job, entry.path), entry)  # again: others may have been quicker
            store.add_upload(connection, made)
    if not is_ours:
        farm.cloud.objects.delete([key])
        raise _Gone


def _check_free(standing: store.Standing, entry: Entry) -> None:
    other = standing.existing.path if standing.existing else standing.above or standing.below
    if other:
        raise NotUsable(f"“{entry.path}” in it meets “{other}”, which this job has already: remove one of them, then upload the zip again")


def _undo(farm: Farm, file: FileRow, problem: str) -> None:
    with farm.db.write() as connection:
        unpacked = store.remove_unpacked(connection, file)
        store.mark_bad(connection, file, problem=problem)
    farm.cloud.objects.delete([row.key for row in unpacked])


def _remove_unpacked(farm: Farm, file: FileRow) -> None:
    with farm.db.write() as connection:
        unpacked = store.remove_unpacked(connection, file)
    farm.cloud.objects.delete([row.key for row in unpacked])


def is_project_zip(path: str) -> bool:
    """Say whether a file is to be unpacked: a zip dropped by itself is, one inside a folder is a file like the others there."""
    return "/" not in path and is_zip(path)
