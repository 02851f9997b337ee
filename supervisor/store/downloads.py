"""Downloads in the database. Whatever changes one raises its job's version in the same transaction."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, select, true, update

from supervisor.domain.download import DownloadStatus
from supervisor.domain.frame import FrameStatus
from supervisor.domain.naming import Packed
from supervisor.domain.zip_plan import ZipIndex

from .encoding import index_from_bytes, index_to_bytes
from .frames import received_outputs
from .jobs import touch
from .schema import download_indexes, downloads, frames


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """One download of a job."""

    id: str
    job: str
    status: DownloadStatus
    reason: str  #: why it failed or was deleted; of one being packed, what it waits for; of one that is ready, what broke a transfer off
    name: str
    frames: int
    done_bytes: int
    total_bytes: int  #: of the frames; of one that is ready, of the zip
    created_at: datetime
    ready_at: datetime | None


def outputs_to_pack(connection: Connection, job: str) -> list[Packed]:
    """Every output of the received frames, by frame, in the order in which the node named them."""
    return [
        Packed(frame=number, name=output.name, bytes=output.bytes, crc32=output.crc32)
        for number, outputs in received_outputs(connection, job)
        for output in outputs
    ]


def size_to_pack(connection: Connection, job: str) -> tuple[int, int]:
    """How many received frames have outputs, and the bytes of all of these: without reading each."""
    output = func.json_each(frames.c.outputs).table_valued("value")
    chosen = select(func.count(frames.c.number.distinct()), func.sum(func.json_extract(output.c.value, "$[1]"))).select_from(frames)
    row = connection.execute(chosen.join(output, true()).where((frames.c.job_id == job) & (frames.c.status == FrameStatus.RECEIVED))).one()
    return row[0], row[1] or 0


def newest_received_at(connection: Connection, job: str) -> datetime | None:
    """When the newest received frame came. Returns: None if there is none"""
    chosen = select(frames.c.received_at).where((frames.c.job_id == job) & frames.c.received_at.is_not(None))
    return connection.execute(chosen.order_by(frames.c.received_at.desc()).limit(1)).scalar()


def add(connection: Connection, download: Download) -> None:
    connection.execute(
        insert(downloads).values(
            id=download.id,
            job_id=download.job,
            status=download.status,
            reason=download.reason,
            name=download.name,
            frames=download.frames,
            done_bytes=download.done_bytes,
            total_bytes=download.total_bytes,
            created_at=download.created_at,
            ready_at=download.ready_at,
        )
    )
    touch(connection, download.job)


def find(connection: Connection, download_id: str) -> Download | None:
    row = connection.execute(select(downloads).where(downloads.c.id == download_id)).first()
    return _download(row) if row else None


def of_job(connection: Connection, job: str, *statuses: DownloadStatus) -> list[Download]:
    """A job's downloads in those statuses, newest first."""
    return _listed(connection, (downloads.c.job_id == job) & downloads.c.status.in_(statuses))


def in_status(connection: Connection, statuses: Iterable[DownloadStatus]) -> list[Download]:
    """All downloads in those statuses, newest first."""
    return _listed(connection, downloads.c.status.in_(list(statuses)))


def begin_packing(connection: Connection, seen: Download, *, outputs: list[Packed], at: datetime) -> bool:
    """Write down what is being packed from now on. Returns: False if it is not to be packed any more"""
    count, total = len({output.frame for output in outputs}), sum(output.bytes for output in outputs)
    return _change(connection, seen, frames=count, total_bytes=total, done_bytes=0, reason="", created_at=at)


def note_progress(connection: Connection, seen: Download, *, done_bytes: int) -> bool:
    """Returns: False if it is not to be packed any more: it was deleted, with its job perhaps"""
    return _change(connection, seen, done_bytes=done_bytes)


def note_wait(connection: Connection, seen: Download, *, reason: str) -> bool:
    """Write down what packing waits for; it begins anew then. Returns: False if it is not to be packed any more"""
    return _change(connection, seen, done_bytes=0, reason=reason)


def end_packing(connection: Connection, seen: Download, index: ZipIndex, *, zip_bytes: int, at: datetime) -> bool:
    """Make a download ready, and keep what is in it. Returns: False if it is not to be packed any more"""
    ready = {"status": DownloadStatus.READY, "reason": "", "done_bytes": zip_bytes, "total_bytes": zip_bytes, "ready_at": at}
    if not _change(connection, seen, **ready):
        return False
    connection.execute(insert(download_indexes).values(download_id=seen.id, body=index_to_bytes(index)))
    return True


def note_break(connection: Connection, seen: Download, *, reason: str) -> bool:
    """Write down what broke a transfer off; empty: the last one went well. Returns: False if the zip is not to be had any more"""
    return _change(connection, seen, reason=reason)


def end(connection: Connection, seen: Download, status: DownloadStatus, *, reason: str) -> bool:
    """Make a download FAILED or DELETED. Returns: False if somebody else moved it, or it is gone"""
    if not _change(connection, seen, status=status, reason=reason):
        return False
    connection.execute(delete(download_indexes).where(download_indexes.c.download_id == seen.id))
    return True


def find_index(connection: Connection, download_id: str) -> ZipIndex | None:
    """What is in a download. Returns: None if it is not ready"""
    body = connection.execute(select(download_indexes.c.body).where(download_indexes.c.download_id == download_id)).scalar()
    return index_from_bytes(body) if body is not None else None


def _change(connection: Connection, seen: Download, **values: Any) -> bool:
    stands = (downloads.c.id == seen.id) & (downloads.c.status == seen.status)
    if connection.execute(update(downloads).where(stands).values(**values)).rowcount != 1:
        return False
    touch(connection, seen.job)
    return True


def _listed(connection: Connection, where: ColumnElement[bool]) -> list[Download]:
    order = (downloads.c.created_at.desc(), downloads.c.id)
    return [_download(row) for row in connection.execute(select(downloads).where(where).order_by(*order))]


def _download(row: Row[Any]) -> Download:
    return Download(
        id=row.id,
        job=row.job_id,
        status=DownloadStatus(row.status),
        reason=row.reason,
        name=row.name,
        frames=row.frames,
        done_bytes=row.done_bytes,
        total_bytes=row.total_bytes,
        created_at=row.created_at,
        ready_at=row.ready_at,
    )
