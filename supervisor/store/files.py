"""A job's files in the database. Whatever changes one raises its job's version in the same transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, select, update

from supervisor.domain.file import FileStatus, is_blend
from supervisor.domain.job import JobStatus
from supervisor.domain.scene import Inspection
from supervisor.domain.scene_json import inspection_from_json, inspection_to_json

from .jobs import touch as touch_job
from .schema import files, jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRow:
    """One file of a job."""

    id: str
    job: str
    path: str
    bytes: int
    modified_ms: int | None
    checksum: str  #: `crc32:<8 hex digits>`; empty: not computed yet
    status: FileStatus
    problem: str
    key: str
    upload_id: str | None
    zip_id: str | None = None  #: the zip that it comes out of, until all of that is unpacked
    part_bytes: int
    inspection: Inspection | None
    created_at: datetime
    touched_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a new file of some path meets in its job."""

    job_status: JobStatus | None  #: None: there is no such job
    existing: FileRow | None  #: the file of that path, or of one that differs from it in case only
    above: str | None  #: the path of a file that stands where the new one needs a folder
    below: str | None  #: the path of a file for which the new one's path is a folder
    count: int  #: the job's other files, uploads under way included
    bytes: int  #: of these


def file_by_id(connection: Connection, file_id: str, *, job: str | None = None) -> FileRow | None:
    where = files.c.id == file_id
    if job is not None:
        where &= files.c.job_id == job
    return _first(connection, where)


def path_of(connection: Connection, file_id: str, *, job: str) -> str | None:
    """Where a file is in its job. Cheap: what was found in it is not read. Returns: None if there is no such file"""
    return connection.execute(select(files.c.path).where((files.c.id == file_id) & (files.c.job_id == job))).scalar()


def standing(connection: Connection, job: str, path: str) -> Standing:
    status = connection.execute(select(jobs.c.status).where(jobs.c.id == job)).scalar()
    existing = _first(connection, (files.c.job_id == job) & (files.c.path_folded == path.casefold()))
    others = (files.c.job_id == job) & (files.c.id != (existing.id if existing else ""))
    count, bytes_ = connection.execute(select(func.count(), func.coalesce(func.sum(files.c.bytes), 0)).where(others)).one()
    return Standing(
        job_status=JobStatus(status) if status else None,
        existing=existing,
        above=_above(connection, job, path.casefold()),
        below=_below(connection, job, path.casefold()),
        count=count,
        bytes=bytes_,
    )


def _above(connection: Connection, job: str, folded: str) -> str | None:
    parts = folded.split("/")
    folders = ["/".join(parts[:depth]) for depth in range(1, len(parts))]
    where = (files.c.job_id == job) & files.c.path_folded.in_(folders)
    return connection.execute(select(files.c.path).where(where).limit(1)).scalar()


def _below(connection: Connection, job: str, folded: str) -> str | None:
    after_slash = chr(ord("/") + 1)
    where = (files.c.job_id == job) & (files.c.path_folded > folded + "/") & (files.c.path_folded < folded + after_slash)
    return connection.execute(select(files.c.path).where(where).limit(1)).scalar()


def files_of(connection: Connection, job: str, *, after: str = "", limit: int | None = None) -> list[FileRow]:
    """A job's files by path, following path `after`."""
    where = (files.c.job_id == job) & (files.c.path > after)
    return [_file(row) for row in connection.execute(select(files).where(where).order_by(files.c.path).limit(limit))]


def blends_of(connection: Connection, job: str) -> list[FileRow]:
    """A job's usable .blend files by path."""
    where = (files.c.job_id == job) & (files.c.status == FileStatus.READY) & files.c.path_folded.endswith(".blend")
    rows = connection.execute(select(files).where(where).order_by(files.c.path))
    return [found for found in map(_file, rows) if is_blend(found.path)]


def paths_of(connection: Connection, job: str) -> list[str]:
    """Paths of a job's usable files, ascending."""
    where = (files.c.job_id == job) & (files.c.status == FileStatus.READY)
    return list(connection.execute(select(files.c.path).where(where).order_by(files.c.path)).scalars())


def main_file_id(connection: Connection, job: str) -> str | None:
    """The .blend that is rendered: the one that a person chose, else the only usable one. Returns: None if there is neither"""
    chosen: str | None = connection.execute(select(jobs.c.main_file_id).where(jobs.c.id == job)).scalar()
    if chosen:
        return chosen
    candidates = blends_of(connection, job)
    return candidates[0].id if len(candidates) == 1 else None


def add_upload(connection: Connection, file: FileRow, *, replaces: FileRow | None = None) -> None:
    """Write a new file's row, in place of the file that it replaces; who was the job's main file stays it."""
    if replaces:
        connection.execute(delete(files).where(files.c.id == replaces.id))
        was_main = (jobs.c.id == file.job) & (jobs.c.main_file_id == replaces.id)
        connection.execute(update(jobs).where(was_main).values(main_file_id=file.id))
    connection.execute(
        insert(files).values(
            id=file.id,
            job_id=file.job,
            path=file.path,
            path_folded=file.path.casefold(),
            bytes=file.bytes,
            modified_ms=file.modified_ms,
            checksum=file.checksum,
            status=file.status,
            problem=file.problem,
            key=file.key,
            upload_id=file.upload_id,
            zip_id=file.zip_id,
            part_bytes=file.part_bytes,
            created_at=file.created_at,
            touched_at=file.touched_at,
        )
    )
    touch_job(connection, file.job)


def touch(connection: Connection, file_id: str, *, at: datetime) -> None:
    """Note that somebody goes on with an upload."""
    connection.execute(update(files).where(files.c.id == file_id).values(touched_at=at))


def mark_checking(connection: Connection, file: FileRow, *, at: datetime) -> bool:
    """Write down that a file is whole in the store. Returns: False if it was not that upload any more"""
    changed = update(files).where(_as_seen(file)).values(status=FileStatus.CHECKING, upload_id=None, touched_at=at)
    return _changed(connection, file.job, changed)


def mark_ready(connection: Connection, file: FileRow, *, checksum: str, inspection: Inspection | None) -> bool:
    """Write down that a file is usable. Returns: False if it was removed or replaced meanwhile"""
    values = {"checksum": checksum, "inspection": inspection_to_json(inspection) if inspection else None, "problem": ""}
    return _changed(connection, file.job, update(files).where(_as_seen(file)).values(status=FileStatus.READY, **values))


def mark_bad(connection: Connection, file: FileRow, *, problem: str, checksum: str = "") -> bool:
    """Write down why a file is unusable. Returns: False if it was removed or replaced meanwhile"""
    changed = update(files).where(_as_seen(file)).values(status=FileStatus.BAD, problem=problem, checksum=checksum)
    return _changed(connection, file.job, changed)


def keep_checksum(connection: Connection, file: FileRow, *, checksum: str) -> None:
    """Write down a usable file's checksum, computed later."""
    connection.execute(update(files).where(_as_seen(file)).values(checksum=checksum))


def remove(connection: Connection, file: FileRow) -> None:
    """Make a file's row be gone; if it was the job's main file, the job has none chosen."""
    connection.execute(delete(files).where(files.c.id == file.id))
    connection.execute(update(jobs).where((jobs.c.id == file.job) & (jobs.c.main_file_id == file.id)).values(main_file_id=None))
    touch_job(connection, file.job)


def stale_uploads(connection: Connection, *, untouched_since: datetime) -> list[FileRow]:
    where = (files.c.status == FileStatus.UPLOADING) & (files.c.touched_at < untouched_since)
    return [_file(row) for row in connection.execute(select(files).where(where))]


def open_uploads(connection: Connection) -> frozenset[str]:
    """Ids of the uploads that somebody may go on with, of all jobs."""
    return frozenset(connection.execute(select(files.c.upload_id).where(files.c.upload_id.is_not(None))).scalars())


def unchecked(connection: Connection) -> list[FileRow]:
    """Files that are whole and not yet checked, oldest first, then usable ones that have no checksum yet.

    Shape:   not what comes out of a zip while that is being unpacked
    """
    checking = (files.c.status == FileStatus.CHECKING) & files.c.zip_id.is_(None)
    where = checking | ((files.c.status == FileStatus.READY) & (files.c.checksum == ""))
    order = (files.c.status == FileStatus.READY, files.c.touched_at)
    return [_file(row) for row in connection.execute(select(files).where(where).order_by(*order))]


def note_waiting(connection: Connection, file: FileRow, *, problem: str) -> None:
    """Write down what the check of a file waits for."""
    if file.status is FileStatus.CHECKING:
        _changed(connection, file.job, update(files).where(_as_seen(file)).values(problem=problem))


def is_checking(connection: Connection, file: FileRow) -> bool:
    """Say whether a file is there and still to be checked, or unpacked."""
    return connection.execute(select(files.c.status).where(files.c.id == file.id)).scalar() == FileStatus.CHECKING


def remove_unpacked(connection: Connection, zipped: FileRow) -> list[FileRow]:
    """Remove the rows of what has come out of a zip that is not unpacked to its end. Returns: them"""
    unpacked = [_file(row) for row in connection.execute(select(files).where(files.c.zip_id == zipped.id))]
    if unpacked:
        connection.execute(delete(files).where(files.c.zip_id == zipped.id))
        touch_job(connection, zipped.job)
    return unpacked


def end_unpacking(connection: Connection, zipped: FileRow) -> bool:
    """Put what came out of a zip in its place: usable, or still to be looked into. Returns: False if the zip was removed meanwhile"""
    if not is_checking(connection, zipped):
        return False
    ours = files.c.zip_id == zipped.id
    is_looked_into = files.c.path_folded.endswith(".blend") | files.c.path_folded.endswith(".blend@")
    connection.execute(update(files).where(ours & ~is_looked_into).values(status=FileStatus.READY, zip_id=None))
    connection.execute(update(files).where(ours).values(zip_id=None))
    remove(connection, zipped)
    return True


def _as_seen(file: FileRow) -> ColumnElement[bool]:
    return (files.c.id == file.id) & (files.c.status == file.status)


def _changed(connection: Connection, job: str, change: Any) -> bool:
    if connection.execute(change).rowcount != 1:
        return False
    touch_job(connection, job)
    return True


def _first(connection: Connection, where: ColumnElement[bool]) -> FileRow | None:
    row = connection.execute(select(files).where(where)).first()
    return _file(row) if row else None


def _file(row: Row[Any]) -> FileRow:
    return FileRow(
        id=row.id,
        job=row.job_id,
        path=row.path,
        bytes=row.bytes,
        modified_ms=row.modified_ms,
        checksum=row.checksum,
        status=FileStatus(row.status),
        problem=row.problem,
        key=row.key,
        upload_id=row.upload_id,
        zip_id=row.zip_id,
        part_bytes=row.part_bytes,
        inspection=inspection_from_json(row.inspection) if row.inspection else None,
        created_at=row.created_at,
        touched_at=row.touched_at,
    )
