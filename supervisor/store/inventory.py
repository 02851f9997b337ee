"""What a job's files amount to: counts, sizes, what keeps the job from being submitted."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from supervisor.domain.file import FileStatus
from supervisor.domain.scene import Inspection

from .files import blends_of, paths_of
from .schema import files


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """A job's files, counted."""

    count: int
    bytes: int
    uploading: int
    checking: int
    bad: tuple[tuple[str, str], ...]  #: (path, problem) of the unusable ones, by path, at most BAD_SHOWN


BAD_SHOWN = 20


def inventory(connection: Connection, job: str) -> Inventory:
    by_status = select(files.c.status, func.count(), func.sum(files.c.bytes)).where(files.c.job_id == job).group_by(files.c.status)
    found = {status: (count, length) for status, count, length in connection.execute(by_status)}
    return Inventory(
        count=sum(count for count, _ in found.values()),
        bytes=sum(length for _, length in found.values()),
        uploading=found.get(FileStatus.UPLOADING, (0, 0))[0],
        checking=found.get(FileStatus.CHECKING, (0, 0))[0],
        bad=_bad(connection, job) if FileStatus.BAD in found else (),
    )


def _bad(connection: Connection, job: str) -> tuple[tuple[str, str], ...]:
    of_job = (files.c.job_id == job) & (files.c.status == FileStatus.BAD)
    chosen = select(files.c.path, files.c.problem).where(of_job).order_by(files.c.path).limit(BAD_SHOWN)
    return tuple((path, problem) for path, problem in connection.execute(chosen))


def usable_files(connection: Connection, job: str) -> dict[str, Inspection | None]:
    """Every usable file of a job by path, with the inspection where it is a .blend."""
    inspections = {blend.path: blend.inspection for blend in blends_of(connection, job)}
    return {path: inspections.get(path) for path in paths_of(connection, job)}
