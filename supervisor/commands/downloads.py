"""Commands about downloads: zips of the frames received so far."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

import structlog

from supervisor import queries
from supervisor.cloud.ports import CloudError
from supervisor.domain.download import DownloadStatus
from supervisor.domain.errors import Conflict, NotFound
from supervisor.domain.ids import new_id
from supervisor.domain.naming import zip_name
from supervisor.domain.zip_plan import ZipEntry, ZipIndex, ZipPlan
from supervisor.farm import Farm
from supervisor.lifecycle.damage import note_damaged, sums_of
from supervisor.lifecycle.sending import BadFrame, send_zip
from supervisor.queries import DownloadView
from supervisor.store import downloads as store
from supervisor.store import frames
from supervisor.store.database import Connection
from supervisor.store.downloads import Download

log = structlog.get_logger(__name__)

_SHOWN = (DownloadStatus.PACKING, DownloadStatus.READY, DownloadStatus.FAILED)
_PACK_ANEW = "Its frames can be packed anew on the job's page."

#: Gives bytes of a zip, from the first one named to before the second.
Sender = Callable[[int, int], Generator[bytes, None, None]]


class ZipBroken(Exception):
    """A zip can't be sent, or not to its end. The message says why and what to do."""

    def __init__(self, message: str, *, is_lasting: bool) -> None:
        super().__init__(message)
        self.is_lasting = is_lasting  #: asking again is of no use


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedZip:
    """A zip as it can be sent: the same bytes each time, as long as its frames stay what they are."""

    name: str
    bytes: int
    etag: str  #: without quotes; strong
    send: Sender  #: errors: ZipBroken


def begin_download(farm: Farm, job: str) -> str:
    """Pack what has been received so far, in the background. A zip of just these frames that is there or being packed is taken instead.

    Returns: the download's id
    Errors:  NotFound, Conflict (no frame received yet)
    """
    summary = queries.job_summary(farm, job)
    with farm.db.read() as connection:
        count, total_bytes = store.size_to_pack(connection, job)
        same = _same(connection, job, count)
    if not count:
        raise Conflict("no frame of this job is received yet; there is nothing to download")
    if same:
        return same
    made = Download(
        id=new_id("download"),
        job=job,
        status=DownloadStatus.PACKING,
        reason="",
        name=zip_name(summary.name, frames=summary.frames.received, total=summary.frames.total),
        frames=count,
        done_bytes=0,
        total_bytes=total_bytes,
        created_at=farm.now(),
        ready_at=None,
    )
    with farm.db.write() as connection:
        same = _same(connection, job, count)  # again: somebody may have been quicker
        if not same:
            store.add(connection, made)
    farm.wake()
    return same or made.id


def download(farm: Farm, download_id: str) -> DownloadView:
    """Errors: NotFound"""
    with farm.db.read() as connection:
        return _view(_found(connection, download_id))


def job_downloads(farm: Farm, job: str) -> list[DownloadView]:
    """A job's downloads that are being packed, ready or failed, newest first."""
    with farm.db.read() as connection:
        return [_view(each) for each in store.of_job(connection, job, *_SHOWN)]


def is_packed(farm: Farm, job: str, *, received: int) -> bool:
    """Say whether a zip of just what is received is there, or being packed. Shape: received: how many frames are"""
    with farm.db.read() as connection:
        return _same(connection, job, received) is not None


def open_download(farm: Farm, download_id: str) -> OpenedZip:
    """Make a ready download sendable. Reads no frame yet. Errors: NotFound (says why it is gone, and that it can be packed anew)"""
    with farm.db.read() as connection:
        found = _found(connection, download_id)
        _check_ready(found)
        index = store.find_index(connection, download_id)
        assert index is not None, "end_packing writes both"
        outdated = _rendered_anew(connection, found, index)
    if outdated is not None:
        reason = _anew(outdated)
        _end_outdated(farm, found, reason)
        raise NotFound(reason)
    plan = ZipPlan(index)
    return OpenedZip(
        name=found.name,
        bytes=plan.bytes,
        etag=f"{found.id}-{plan.bytes:x}",
        send=lambda first, end: _send(farm, found, index, plan, first, end),
    )


def _check_ready(found: Download) -> None:
    match found.status:
        case DownloadStatus.PACKING:
            raise NotFound("The zip is not ready yet: it is being packed.")
        case DownloadStatus.FAILED:
            raise NotFound(found.reason)
        case DownloadStatus.DELETED:
            raise NotFound(f"{found.reason} {_PACK_ANEW}")


def _send(farm: Farm, found: Download, index: ZipIndex, plan: ZipPlan, first: int, end: int) -> Generator[bytes, None, None]:
    try:
        yield from send_zip(farm.cloud.objects, found.job, plan, first=first, end=end)
    except BadFrame as error:
        raise ZipBroken(_end_damaged(farm, found, index, error), is_lasting=True) from error
    except CloudError as error:
        log.warning("transfer broken off", job=found.job, download=found.id, error=str(error))
        reason = "A transfer broke off: the object store could not be read. Download it again: what stopped on the way goes on from there."
        _note_break(farm, found, reason)
        raise ZipBroken(reason, is_lasting=False) from error
    if found.reason and end == plan.bytes:
        _note_break(farm, found, "")


def _end_outdated(farm: Farm, found: Download, reason: str) -> None:
    log.warning("zip can't be sent any more", job=found.job, download=found.id, because=reason)
    with farm.db.write() as connection:
        store.end(connection, found, DownloadStatus.FAILED, reason=reason)


def _end_damaged(farm: Farm, found: Download, index: ZipIndex, bad: BadFrame) -> str:
    """End a zip of which a frame is damaged, or was rendered anew while it was sent. Returns: which"""
    seen = sums_of((entry.output, entry) for entry in index.entries if entry.frame == bad.frame)
    with farm.db.write() as connection:
        is_damaged = bool(note_damaged(connection, found.job, {bad.frame: bad.damage}, {bad.frame: seen}))
        reason = str(bad) if is_damaged else _anew(bad.frame)
        store.end(connection, found, DownloadStatus.FAILED, reason=reason)
    log.warning("zip can't be sent any more", job=found.job, download=found.id, because=reason)
    return reason


def _anew(frame: int) -> str:
    return f"Frame {frame} was rendered anew since this zip was packed. {_PACK_ANEW}"


def _note_break(farm: Farm, found: Download, reason: str) -> None:
    with farm.db.write() as connection:
        store.note_break(connection, found, reason=reason)


def _rendered_anew(connection: Connection, found: Download, index: ZipIndex) -> int | None:
    """A frame of the zip whose outputs are others now. Returns: None if all are as they were"""
    anew = frames.outputs_received_after(connection, found.job, found.created_at)
    packed: dict[int, list[ZipEntry]] = {}
    for entry in index.entries:
        if entry.frame in anew:
            packed.setdefault(entry.frame, []).append(entry)
    for number, entries in packed.items():
        if sums_of((entry.output, entry) for entry in entries) != sums_of((output.name, output) for output in anew[number]):
            return number
    return None


def _same(connection: Connection, job: str, count: int) -> str | None:
    """The download of just the frames received now that is ready or being packed. Returns: None if there is none"""
    newest = store.newest_received_at(connection, job)
    for each in store.of_job(connection, job, DownloadStatus.PACKING, DownloadStatus.READY):
        if each.frames == count and (newest is None or newest <= each.created_at):
            return each.id
    return None


def _found(connection: Connection, download_id: str) -> Download:
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
