"""Deleted jobs that still have something in the bucket or on the disk."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from .schema import deletions, files


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """What is left of a deleted job."""

    job: str
    uploads: tuple[tuple[str, str], ...]  #: (key, upload id) to abort
    at: datetime


def leave_deletion(connection: Connection, job: str, *, at: datetime) -> None:
    """Write down what a job leaves behind that is about to be removed, in the same transaction."""
    began = select(files.c.key, files.c.upload_id).where((files.c.job_id == job) & files.c.upload_id.is_not(None))
    uploads = [list(row) for row in connection.execute(began)]
    connection.execute(insert(deletions).values(job_id=job, at=at, uploads=uploads))


def deletions_left(connection: Connection) -> list[Deletion]:
    """By time."""
    return [
        Deletion(job=row.job_id, uploads=tuple((key, upload) for key, upload in row.uploads), at=row.at)
        for row in connection.execute(select(deletions).order_by(deletions.c.at, deletions.c.job_id))
    ]


def remove_deletion(connection: Connection, job: str) -> None:
    connection.execute(delete(deletions).where(deletions.c.job_id == job))
