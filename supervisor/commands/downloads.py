"""Commands about downloads: zips of the frames received so far."""

from __future__ import annotations

from pathlib import Path

from supervisor import queries
from supervisor.domain.download import DownloadStatus
from supervisor.domain.errors import Conflict, NotFound, OutOfSpace
from supervisor.domain.ids import new_id
from supervisor.domain.naming import Packed, zip_name
from supervisor.domain.upload import gib
from supervisor.farm import Farm
from supervisor.lifecycle.pack import zip_path
from supervisor.queries import DownloadView
from supervisor.room import check_room
from supervisor.store import downloads as store
from supervisor.store.database import Connection
from supervisor.store.downloads import Download

_SHOWN = (DownloadStatus.PACKING, DownloadStatus.READY, DownloadStatus.FAILED)


def begin_download(farm: Farm, job: str) -> str:
    """Pack what has been received so far, in the background. A zip of just these frames that is there or being packed is taken instead.

    Returns: the download's id
    Errors:  NotFound, Conflict (no frame received yet), OutOfSpace
    """
    summary = queries.job_summary(farm, job)
    with farm.db.read() as connection:
        outputs = store.outputs_to_pack(connection, job)
        same = _same(farm, connection, job, outputs)
    if not outputs:
        raise Conflict("no frame of this job is received yet; there is nothing to download")
    if same:
        return same
    total = sum(output.bytes for output in outputs)
    _check_size(farm, total)
    made = Download(
        id=new_id("download"),
        job=job,
        status=DownloadStatus.PACKING,
        reason="",
        name=zip_name(summary.name, frames=summary.frames.received, total=summary.frames.total),
        frames=summary.frames.received,
        done_bytes=0,
        total_bytes=total,
        created_at=farm.now(),
        ready_at=None,
    )
    with farm.db.write() as connection:
        same = _same(farm, connection, job, outputs)  # again: somebody may have been quicker
        if not same:
            store.add(connection, made)
    return same or made.id


def download(farm: Farm, download_id: str) -> DownloadView:
    """Errors: NotFound"""
    return _view(_found(farm, download_id))


def job_downloads(farm: Farm, job: str) -> list[DownloadView]:
    """A job's downloads that are being packed, ready or failed, newest first."""
    with farm.db.read() as connection:
        return [_view(each) for each in store.of_job(connection, job, *_SHOWN)]


def download_file(farm: Farm, download_id: str) -> Path:
    """The zip of a ready download. Errors: NotFound (deleted by age or size: says so, and that it can be packed anew)"""
    found = _found(farm, download_id)
    if found.status is DownloadStatus.DELETED:
        raise NotFound(f"{found.reason or 'The zip was deleted.'} Its frames can be packed anew on the job's page.")
    if found.status is not DownloadStatus.READY:
        raise NotFound(f"The zip is not ready: it is {found.status}.")
    path = zip_path(farm, found.id)
    if not path.is_file():
        raise NotFound("The zip is not on the farm's disk any more. Its frames can be packed anew on the job's page.")
    return path


def _same(farm: Farm, connection: Connection, job: str, outputs: list[Packed]) -> str | None:
    """The download of just these frames that is there or being packed. Returns: None if there is none"""
    count, total = len({output.frame for output in outputs}), sum(output.bytes for output in outputs)
    newest = store.newest_received_at(connection, job)
    for each in store.of_job(connection, job, DownloadStatus.PACKING, DownloadStatus.READY):
        is_whole = each.status is DownloadStatus.PACKING or zip_path(farm, each.id).is_file()
        if is_whole and (each.frames, each.total_bytes) == (count, total) and (newest is None or newest <= each.created_at):
            return each.id
    return None


def _check_size(farm: Farm, total_bytes: int) -> None:
    limit = farm.config.downloads.max_total_gib
    if total_bytes > limit * (1 << 30):
        raise OutOfSpace(f"the zip would have {gib(total_bytes)}; all zips together may have {limit:g} GiB ([downloads] max_total_gib)")
    check_room(farm, total_bytes, what="the zip")


def _found(farm: Farm, download_id: str) -> Download:
    with farm.db.read() as connection:
        found = store.find(connection, download_id)
    if found is None:
        raise NotFound("there is no such download (any more)")
    return found


def _view(found: Download) -> DownloadView:
    return DownloadView(
        id=found.id,
        job=found.job,
        status=found.status,
        reason=found.reason,
        name=found.name,
        frames=found.frames,
        done_bytes=found.done_bytes,
        total_bytes=found.total_bytes,
        created_at=found.created_at,
        ready_at=found.ready_at,
    )
